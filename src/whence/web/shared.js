// What report and service share: elements, numbers, places. In the report it is joined before page.js; the service imports it.
const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const EARTH = 6378137;

// Text is only ever set through textContent: what a file name holds stays text.
function make(tag, options = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(options)) {
    if (key === "text") node.textContent = value;
    else if (key === "css") node.className = value;
    else if (key in node && key !== "list") node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}
function draw(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}
const isNumber = (value) => typeof value === "number";
const metres = (m) => (m < 9.95 ? m.toFixed(1) + " m" : m < 1000 ? Math.round(m) + " m" : m < 1e5 ? (m / 1000).toFixed(1) + " km" : Math.round(m / 1000).toLocaleString("en") + " km");
const base = (name) => name.split(/[\\/]/).pop();

const confidenceInWords = (value) =>
  !isNumber(value) ? "not calibrated" : value >= 0.99 ? "almost certain" : value >= 0.95 ? "very likely" : value >= 0.8 ? "likely"
    : value >= 0.5 ? "more likely than not" : value >= 0.2 ? "doubtful" : "unlikely";

// Rings of a world-atlas layer (TopoJSON): a list of {name, polygons}, each polygon a list of rings of [longitude, latitude].
function shapesOf(topology, layer) {
  const [sx, sy] = topology.transform.scale, [tx, ty] = topology.transform.translate;
  const arcs = topology.arcs.map((arc) => {
    let x = 0, y = 0;
    return arc.map(([dx, dy]) => [(x += dx) * sx + tx, (y += dy) * sy + ty]);
  });
  const ring = (numbers) => numbers.flatMap((number, place) => {
    const points = number < 0 ? [...arcs[~number]].reverse() : arcs[number];
    return place ? points.slice(1) : points;
  });
  const polygons = (shape) => shape.type === "Polygon" ? [shape.arcs.map(ring)] : shape.type === "MultiPolygon" ? shape.arcs.map((one) => one.map(ring)) : [];
  return topology.objects[layer].geometries.map((shape) => ({ name: shape.properties?.name ?? "", polygons: polygons(shape) }));
}
