// The map. Joined with page.js into one script.
// ---- map: Web Mercator metres, everything placed anew at each change of view --------------------------------------------
const map = byId("map");
const DOT_PX = 6;
const CROWD = 400;
const whereOf = (entry) => [entry.point, entry.truth, ...entry.candidates.map((one) => one.point)].filter(Boolean);
const first = entries.flatMap(whereOf)[0];
const hasMap = first !== undefined;
const view = { x: 0, y: 0, scale: 1 };
const LAYERS = [["answers", "answers", true], ["radius", "radius (90 %)", true], ["truth", "truth", true], ["candidates", "candidates", true]];
const visible = Object.fromEntries(LAYERS.map(([name, , isOn]) => [name, isOn]));
const rad = (degrees) => (degrees * Math.PI) / 180;
function project([lat, lon]) {
  // Longitudes count from the first point, so a set astride the antimeridian stays together.
  const turned = ((((lon - first[1] + 180) % 360) + 360) % 360) - 180;
  const bounded = Math.max(-85, Math.min(85, lat));
  return [EARTH * rad(turned), -EARTH * Math.log(Math.tan(Math.PI / 4 + rad(bounded) / 2))];
}
const latOf = (y) => (360 / Math.PI) * Math.atan(Math.exp(-y / EARTH)) - 90;
const lonOf = (x) => ((((x / EARTH) * 180) / Math.PI + first[1] + 540) % 360 + 360) % 360 - 180;
function apart(a, b) {
  const h = Math.sin(rad(b[0] - a[0]) / 2) ** 2 + Math.cos(rad(a[0])) * Math.cos(rad(b[0])) * Math.sin(rad(b[1] - a[1]) / 2) ** 2;
  return 2 * 6371008.8 * Math.asin(Math.min(1, Math.sqrt(h)));
}
let extent = [400, 300];
const size = () => extent;
const measure = () => { extent = [map.clientWidth || 400, map.clientHeight || 300]; };
const placed = new Map();
function screen(point) {
  // Each place is projected once: its array is the key.
  let at = placed.get(point);
  if (!at) placed.set(point, (at = project(point)));
  return [(at[0] - view.x) * view.scale + extent[0] / 2, (at[1] - view.y) * view.scale + extent[1] / 2];
}
function frame(list) {
  // Answers and truths, and the first candidate of a single entry: strays among the candidates would make the rest tiny.
  let points = list.flatMap((entry) => [entry.point, entry.truth].filter(Boolean));
  if (list.length === 1 || !points.length) points = points.concat(list.flatMap((entry) => entry.candidates.slice(0, 1).map((one) => one.point).filter(Boolean)));
  if (!points.length) return;
  const xy = points.map(project), xs = xy.map((p) => p[0]), ys = xy.map((p) => p[1]);
  const low = (values) => values.reduce((a, b) => Math.min(a, b)), high = (values) => values.reduce((a, b) => Math.max(a, b));
  measure();
  const grow = Math.max(...list.slice(0, 2000).map((entry) => (entry.point ? entry.radius ?? 0 : 0)), 30) / Math.cos(rad(points[0][0]));
  const [w, h] = size();
  view.x = (low(xs) + high(xs)) / 2;
  view.y = (low(ys) + high(ys)) / 2;
  view.scale = 0.86 * Math.min(w / (high(xs) - low(xs) + 2 * grow), h / (high(ys) - low(ys) + 2 * grow));
  redraw();
}
function zoom(factor, at) {
  const [w, h] = size(), [px, py] = at ?? [w / 2, h / 2];
  const next = Math.min(60, Math.max(1e-6, view.scale * factor));
  view.x += (px - w / 2) * (1 / view.scale - 1 / next);
  view.y += (py - h / 2) * (1 / view.scale - 1 / next);
  view.scale = next;
  redraw();
}
function move(dx, dy) { view.x -= dx / view.scale; view.y -= dy / view.scale; redraw(); }
let isDue = false;
function redraw() {
  if (!hasMap || isDue) return;
  isDue = true;
  requestAnimationFrame(() => { isDue = false; measure(); map.replaceChildren(...layers()); });
}
// Outlines of land, where answers lie so far apart that they help; longitudes that turn around the map's seam break a line.
const rings = data.land ? shapesOf(data.land, "land").flatMap((shape) => shape.polygons.flat()).map((ring) => ring.map(([lon, lat]) => [lat, lon])) : [];
function coasts() {
  const width = 2 * Math.PI * EARTH * view.scale, path = [];
  for (const ring of rings) {
    let before = null;
    for (const place of ring) {
      const [x, y] = screen(place), isBroken = !before || Math.abs(x - before) > width / 2;
      path.push((isBroken ? "M" : "L") + Math.round(x) + " " + Math.round(y));
      before = x;
    }
  }
  return draw("path", { d: path.join(""), class: "coast" });
}
const near = ([x, y], margin = 20) => { const [w, h] = size(); return x > -margin && y > -margin && x < w + margin && y < h + margin; };
function layers() {
  const parts = [graticule(), coasts()];
  const list = state.shown;
  const cross = (path, css) => draw("path", { d: path, class: css });
  if (visible.candidates) {
    const seen = new Set();
    for (const entry of list) for (const one of entry.candidates) {
      if (!one.point) continue;
      const p = screen(one.point);
      if (near(p)) seen.add(`M${Math.round(p[0])} ${Math.round(p[1])}h0`);
    }
    parts.push(cross([...seen].join(""), "cand"));
  }
  if (visible.radius) {
    for (const entry of list) {
      if (!entry.point || !isNumber(entry.radius) || entry.status === "unknown") continue;
      const p = screen(entry.point), r = (entry.radius / Math.cos(rad(entry.point[0]))) * view.scale;
      if (r > DOT_PX && near(p, r)) parts.push(draw("circle", { cx: p[0], cy: p[1], r, class: "radius " + colour(entry) }));
    }
  }
  const chosen = entries[state.on];
  if (chosen && chosen.point && visible.candidates) {
    const [x, y] = screen(chosen.point);
    parts.push(cross(chosen.candidates.filter((one) => one.point).map((one) => `M${x} ${y}L${screen(one.point).join(" ")}`).join(""), "link"));
  }
  if (visible.truth) {
    const known = list.filter((entry) => entry.truth).map((entry) => [entry, screen(entry.truth)]);
    parts.push(cross(known.filter(([entry]) => entry.point).map(([entry, [x, y]]) => `M${x} ${y}L${screen(entry.point).join(" ")}`).join(""), "gap"));
    parts.push(cross(known.filter(([, p]) => near(p)).map(([, [x, y]]) => `M${x} ${y - 6}l6 6l-6 6l-6 -6z`).join(""), "truth"));
  }
  if (visible.answers) {
    // The wrong ones and the chosen one lie on top.
    const order = (entry) => (entry.id === state.on ? 2 : entry.verdict === "wrong" ? 1 : 0);
    const drawn = list.filter((entry) => entry.point).map((entry) => [entry, screen(entry.point)]).filter(([, p]) => near(p));
    const r = drawn.length > CROWD ? DOT_PX * 0.6 : DOT_PX;
    for (const [entry, p] of drawn.sort((a, b) => order(a[0]) - order(b[0]))) parts.push(answer(entry, p, r));
  }
  parts.push(scaleBar());
  return parts;
}
const colour = (entry) => (entry.status === "unknown" ? "c-unknown" : entry.verdict ? "c-" + entry.verdict : "c-none");
function answer(entry, [x, y], r) {
  const node = draw("g", { class: "answer" + (entry.id === state.on ? " on" : ""), transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`, "data-id": entry.id });
  if (isNumber(entry.heading)) node.append(draw("line", { x1: 0, y1: 0, x2: 15 * Math.sin(rad(entry.heading)), y2: -15 * Math.cos(rad(entry.heading)), class: "aim " + colour(entry) }));
  node.append(draw("circle", { r, class: "dot " + colour(entry) }));
  if (entry.id === state.on) node.append(draw("circle", { r: 10, class: "halo" }));
  const title = draw("title");
  title.textContent = base(entry.name);
  node.append(title);
  return node;
}
function graticule() {
  const [w, h] = size(), part = draw("g");
  const west = view.x - w / 2 / view.scale, degree = (EARTH * Math.PI * view.scale) / 180;
  const steps = [];
  for (let power = -6; power <= 1; power++) for (const digit of [1, 2, 5]) steps.push([digit * 10 ** power, Math.max(0, -power)]);
  const [step, digits] = steps.find(([value]) => value * degree >= 110) ?? [45, 0];
  const start = Math.ceil(((west / EARTH) * 180) / Math.PI / step + first[1] / step) * step;
  for (let lon = start, i = 0; i < 40; i++, lon = start + i * step) {
    const x = (EARTH * rad(lon - first[1]) - view.x) * view.scale + w / 2;
    if (x > w) break;
    const wrapped = ((((lon + 180) % 360) + 360) % 360) - 180;
    part.append(draw("path", { d: `M${x} 0V${h}`, class: "grid" }), label(x + 4, h - 8, Math.abs(wrapped).toFixed(digits) + "° " + (wrapped < 0 ? "W" : "E")));
  }
  const top = latOf(view.y - h / 2 / view.scale), bottom = latOf(view.y + h / 2 / view.scale);
  for (let i = Math.ceil(bottom / step), n = 0; i * step <= top && n < 60; i++, n++) {
    const y = screen([i * step, first[1]])[1];
    part.append(draw("path", { d: `M0 ${y}H${w}`, class: "grid" }), label(6, y - 4, Math.abs(i * step).toFixed(digits) + "° " + (i < 0 ? "S" : "N")));
  }
  return part;
}
function label(x, y, text) { const node = draw("text", { x, y }); node.textContent = text; return node; }
function scaleBar() {
  const [w, h] = size(), perPixel = Math.cos(rad(latOf(view.y))) / view.scale;
  const power = 10 ** Math.floor(Math.log10(110 * perPixel)), length = [5, 2, 1].find((digit) => digit * power <= 110 * perPixel) * power;
  const px = length / perPixel, x = w - 14 - px, y = h - 26;
  const text = label(x + px / 2, y - 7, length < 1000 ? +length.toPrecision(3) + " m" : (length / 1000).toLocaleString("en") + " km");
  text.setAttribute("text-anchor", "middle");
  return draw("g", { class: "scale" }, draw("path", { d: `M${x} ${y - 5}v5h${px}v-5`, class: "bar-line" }), text);
}
function legend() {
  const signs = {
    answers: () => draw("circle", { cx: 8, cy: 8, r: 5, class: hasTruth ? "c-right" : "c-none" }), radius: () => draw("circle", { cx: 8, cy: 8, r: 7, class: "radius c-none" }),
    truth: () => draw("path", { d: "M8 2l6 6l-6 6l-6 -6z", class: "truth" }), candidates: () => draw("path", { d: "M8 8h0", class: "cand" }),
  };
  const useful = { answers: true, candidates: true, radius: entries.some((entry) => isNumber(entry.radius)), truth: entries.some((entry) => entry.truth) };
  for (const [name, text] of LAYERS.filter(([name]) => useful[name])) {
    const box = make("input", { type: "checkbox", checked: true, onchange: (event) => { visible[name] = event.target.checked; redraw(); } });
    byId("legend").append(make("label", {}, box, draw("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, signs[name]()), text));
  }
}
function drive() {
  const held = new Map();
  let travelled = 0;
  map.addEventListener("pointerdown", (event) => { map.setPointerCapture(event.pointerId); held.set(event.pointerId, [event.clientX, event.clientY]); travelled = 0; });
  map.addEventListener("pointermove", (event) => {
    const before = held.get(event.pointerId);
    if (!before) return;
    const now = [event.clientX, event.clientY];
    if (held.size === 1) { move(now[0] - before[0], now[1] - before[1]); travelled += Math.hypot(now[0] - before[0], now[1] - before[1]); }
    else if (held.size === 2) {
      const other = [...held].find(([id]) => id !== event.pointerId)[1], box = map.getBoundingClientRect();
      const gap = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]) || 1;
      zoom(gap(now) / gap(before), [(now[0] + other[0]) / 2 - box.left, (now[1] + other[1]) / 2 - box.top]);
      travelled = 99;
    }
    held.set(event.pointerId, now);
  });
  const release = (event) => {
    if (held.delete(event.pointerId) && event.type === "pointerup" && travelled < 5) {
      const hit = document.elementFromPoint(event.clientX, event.clientY)?.closest(".answer");
      if (hit) select(Number(hit.dataset.id), true);
    }
  };
  map.addEventListener("pointerup", release);
  map.addEventListener("pointercancel", release);
  map.addEventListener("wheel", (event) => {
    // The wheel scrolls the page until the map has been clicked, so the page never gets stuck on the map.
    if (document.activeElement !== map && !event.ctrlKey) return;
    event.preventDefault();
    const box = map.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), [event.clientX - box.left, event.clientY - box.top]);
  }, { passive: false });
  map.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
    if (moves[event.key]) move(...moves[event.key]);
    else if (event.key === "+" || event.key === "=") zoom(1.5);
    else if (event.key === "-") zoom(1 / 1.5);
    else if (event.key === "0") frame(state.shown);
    else return;
    event.preventDefault();
  });
  byId("in").onclick = () => zoom(1.6);
  byId("out").onclick = () => zoom(1 / 1.6);
  byId("fit").onclick = () => frame(state.shown);
  new ResizeObserver(redraw).observe(map);
}

