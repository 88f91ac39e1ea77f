// The map: outlines of the world that come along, tiles where the owner named a server, answers with radius and heading.
import * as maplibre from "./carried/maplibre-gl.mjs";
import { EARTH, byId, draw, make, metres, shapesOf } from "./shared.js";
import { askJson, database, say, thumbnail } from "./service.js";

const CANDIDATE_PX = 5;
const empty = () => ({ type: "FeatureCollection", features: [] });
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const point = (lat, lon, properties = {}) => ({ type: "Feature", geometry: { type: "Point", coordinates: [lon, lat] }, properties });

// A circle on the ground as a polygon, in degrees.
function circle({ lat, lon }, radius) {
  const up = (radius / EARTH) * (180 / Math.PI), across = up / Math.max(Math.cos((lat * Math.PI) / 180), 0.01);
  const ring = Array.from({ length: 65 }, (_, i) => [lon + across * Math.cos((i * Math.PI) / 32), lat + up * Math.sin((i * Math.PI) / 32)]);
  return { type: "Feature", geometry: { type: "Polygon", coordinates: [ring] }, properties: {} };
}

function isInside([x, y], ring) {
  let inside = false;
  for (let i = 0, j = ring.length - 1; i < ring.length; j = i++) {
    const [xi, yi] = ring[i], [xj, yj] = ring[j];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
  }
  return inside;
}

export async function startAtlas(tiles) {
  const world = await (await fetch("/static/carried/countries-50m.json")).json();
  const countries = shapesOf(world, "countries");
  const land = {
    type: "FeatureCollection",
    features: countries.map(({ name, polygons }) => ({ type: "Feature", geometry: { type: "MultiPolygon", coordinates: polygons }, properties: { name } })),
  };
  const style = {
    version: 8,
    sources: { land: { type: "geojson", data: land, attribution: "Outlines: Natural Earth" } },
    layers: [
      { id: "water", type: "background", paint: { "background-color": colour("--water") } },
      { id: "land", type: "fill", source: "land", paint: { "fill-color": colour("--card") } },
      { id: "borders", type: "line", source: "land", paint: { "line-color": colour("--grid"), "line-width": 1 } },
    ],
  };
  if (tiles) {
    style.sources.tiles = { type: "raster", tiles: [tiles], tileSize: 256, attribution: new URL(tiles.replaceAll(/[{}]/g, "")).host };
    style.layers.push({ id: "tiles", type: "raster", source: "tiles" });
  }
  for (const name of ["photos", "radius", "candidates"]) style.sources[name] = { type: "geojson", data: empty() };
  style.layers.push(
    { id: "photos", type: "circle", source: "photos", paint: { "circle-radius": 3.5, "circle-color": colour("--muted"), "circle-opacity": 0.7 } },
    { id: "radius", type: "fill", source: "radius", paint: { "fill-color": colour("--accent"), "fill-opacity": 0.18, "fill-outline-color": colour("--accent") } },
    { id: "candidates", type: "circle", source: "candidates", paint: {
      "circle-radius": CANDIDATE_PX, "circle-color": colour("--card"), "circle-stroke-color": colour("--text"), "circle-stroke-width": 1.6 } },
  );
  let map;
  try {
    map = new maplibre.Map({ container: "map", style, center: [10, 30], zoom: 1, attributionControl: { compact: false }, maxZoom: 19, dragRotate: false, pitchWithRotate: false });
  } catch {
    byId("mapwords").textContent = "This browser draws no maps (WebGL is off); places are told in words.";
    return wordsAlone(countries);
  }
  map.addControl(new maplibre.NavigationControl({ showCompass: false }), "top-right");
  map.addControl(new maplibre.ScaleControl());
  map.getCanvas().setAttribute("aria-label", "Map of answers: arrow keys move, plus and minus zoom");
  await new Promise((done) => map.once("load", done));
  let markers = [];

  const set = (name, features) => map.getSource(name).setData({ type: "FeatureCollection", features });
  const pin = ({ heading, status, label, isOn }) => {
    const svg = draw("svg", { viewBox: "-11 -11 22 22", "aria-hidden": "true" });
    if (typeof heading === "number") svg.append(draw("line", { class: "aim", x1: 0, y1: 0, x2: 0, y2: -20, transform: "rotate(" + heading + ")" }));
    svg.append(draw("circle", { class: "dot", r: 7 }));
    return make("button", { type: "button", css: "marker " + status + (isOn ? " on" : ""), "aria-label": label }, svg);
  };
  const mark = (place, options = {}) => {
    const element = pin(options);
    const marker = new maplibre.Marker({ element, draggable: Boolean(options.onMove) }).setLngLat([place.lon, place.lat]).addTo(map);
    if (options.onMove) marker.on("dragend", () => { const { lat, lng } = marker.getLngLat().wrap(); options.onMove({ lat, lon: lng }); });
    if (options.onClick) element.addEventListener("click", (event) => { event.stopPropagation(); options.onClick(); });
    markers.push(marker);
  };

  async function near(event) {
    const { lat, lng } = event.lngLat.wrap();
    try {
      const found = await askJson("/v1/photos?num=12&near=" + lat.toFixed(6) + "," + lng.toFixed(6) + "&database=" + encodeURIComponent(database()));
      set("photos", found.photos.map((one) => point(one.lat, one.lon)));
      byId("near").hidden = !found.photos.length;
      byId("mapwords").textContent = found.photos.length ? "Nearest photos to " + lat.toFixed(5) + ", " + lng.toFixed(5) + countryText(lat, lng) + ":" : "The database has no photos with places.";
      byId("near").replaceChildren(...found.photos.map((one) => make("figure", {}, thumbnail(one.id, "Photo " + one.photo.split("/").pop()),
        make("figcaption", {}, make("b", { text: metres(new maplibre.LngLat(one.lon, one.lat).distanceTo(event.lngLat)) }), " away"))));
    } catch (error) {
      say(error.message);
    }
  }
  map.on("click", near);

  function country(lat, lon) {
    const found = countries.find(({ polygons }) => polygons.some(([outer, ...holes]) => isInside([lon, lat], outer) && !holes.some((hole) => isInside([lon, lat], hole))));
    return found?.name ?? "";
  }
  const countryText = (lat, lon) => { const name = country(lat, lon); return name ? " (" + name + ")" : ""; };

  return {
    mark,
    country,
    candidates: (places) => set("candidates", places.map((one) => point(one.lat, one.lon))),
    radius: (place, size) => set("radius", place && size ? [circle(place, size)] : []),
    clear() {
      markers.forEach((one) => one.remove());
      markers = [];
      for (const name of ["photos", "radius", "candidates"]) set(name, []);
      byId("near").hidden = true;
    },
    fly: (place, size = 40) => map.fitBounds([[place.lon - across(place, size), place.lat - up(size)], [place.lon + across(place, size), place.lat + up(size)]], { duration: 0, maxZoom: 18 }),
    goTo: (box) => map.fitBounds([[box.west, box.south], [box.east, box.north]], { padding: 40, duration: 0, maxZoom: 17 }),
    colour() {
      map.setPaintProperty("water", "background-color", colour("--water"));
      map.setPaintProperty("land", "fill-color", colour("--card"));
      map.setPaintProperty("borders", "line-color", colour("--grid"));
      map.setPaintProperty("photos", "circle-color", colour("--muted"));
      map.setPaintProperty("candidates", "circle-color", colour("--card"));
      map.setPaintProperty("candidates", "circle-stroke-color", colour("--text"));
      for (const side of ["fill-color", "fill-outline-color"]) map.setPaintProperty("radius", side, colour("--accent"));
    },
  };
}

const up = (size) => (4 * size / EARTH) * (180 / Math.PI);
const across = (place, size) => up(size) / Math.max(Math.cos((place.lat * Math.PI) / 180), 0.01);

function wordsAlone(countries) {
  const nothing = () => {};
  const country = (lat, lon) => countries.find(({ polygons }) => polygons.some(([outer]) => isInside([lon, lat], outer)))?.name ?? "";
  return { mark: nothing, country, candidates: nothing, radius: nothing, clear: nothing, fly: nothing, goTo: nothing, colour: nothing };
}
