"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  const CHUNK = 40;
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
  const spent = (s) => (s < 0.001 ? "<1 ms" : s < 1 ? Math.round(1000 * s) + " ms" : s.toFixed(2) + " s");
  const sum = (list) => list.reduce((total, value) => total + value, 0);
  function quantile(list, share) {
    const sorted = [...list].sort((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))];
  }
  const base = (name) => name.split(/[\\/]/).pop();
  const folder = (name) => name.slice(0, name.length - base(name).length);

  const entries = data.entries;
  entries.forEach((entry, i) => { entry.id = i; entry.total = sum(Object.values(entry.seconds)); });
  const hasTruth = entries.some((entry) => entry.verdict !== "");
  const FILTERS = [
    ["all", "All", () => true],
    ["wrong", "Wrong", (entry) => entry.verdict === "wrong"],
    ["unknown", "Unknown", (entry) => entry.status === "unknown"],
    ["located", "Located", (entry) => entry.status === "located"],
    ["unverified", "Unverified", (entry) => entry.isUnverified],
    ["matched", "Matched photo only", (entry) => entry.status === "matched"],
    ["right", "Right", (entry) => entry.verdict === "right"],
  ];
  const ORDERS = [
    ["As given", null],
    ["Least sure first", (entry) => entry.confidence ?? (entry.candidates.length ? entry.candidates[0].similarity - 2 : -3)],
    ["Largest error first", (entry) => -(entry.error ?? -1)],
    ["Slowest first", (entry) => -entry.total],
  ];
  const state = { filter: "all", text: "", order: 0, shown: [], limit: CHUNK, on: -1 };

  // ---- summary -------------------------------------------------------------------------------------------------------------
  byId("title").textContent = data.title;
  byId("lines").append(...data.lines.map((line) => make("p", { text: line })));
  byId("limits").append(...data.limits.map((line) => make("p", { css: "limit", text: line })));
  function tiles() {
    const count = (name) => entries.filter(FILTERS.find((filter) => filter[0] === name)[2]).length;
    const list = [["", entries.length.toLocaleString("en"), "queries"], ["", count("located"), "located"]];
    if (count("matched")) list.push(["", count("matched"), "matched photo only"]);
    list.push(["unknown", count("unknown"), "unknown"], ["", count("unverified"), "unverified"]);
    if (hasTruth) list.push(["right", count("right"), "right"], ["wrong", count("wrong"), "wrong"]);
    const errors = entries.map((entry) => entry.error).filter(isNumber);
    if (errors.length) list.push(["", metres(quantile(errors, 0.5)), "median error"]);
    const inside = entries.filter((entry) => isNumber(entry.error) && isNumber(entry.radius));
    if (inside.length) list.push(["", Math.round((100 * inside.filter((entry) => entry.error <= entry.radius).length) / inside.length) + " %", "truth inside radius"]);
    const times = entries.map((entry) => entry.total).filter((total) => total > 0);
    if (times.length) list.push(["", spent(sum(times) / times.length), "per photo"]);
    byId("tiles").append(...list.map(([css, value, label]) => make("div", { css: "tile " + (value === 0 ? "none" : css) }, make("b", { text: value }), make("span", { text: label }))));
  }
  function sheet(table, isOpen) {
    const row = (tag, cells) => make("tr", {}, ...cells.map((cell) => make(tag, { text: cell })));
    const body = make("table", {}, make("thead", {}, row("th", table.header)), make("tbody", {}, ...table.rows.map((cells) => row("td", cells))));
    byId("tables").append(make("details", { css: "sheet", open: isOpen }, make("summary", { text: table.caption }), body));
  }
  function stageTable() {
    const stages = [...new Set(entries.flatMap((entry) => Object.keys(entry.seconds)))];
    if (!stages.length) return;
    const all = sum(entries.map((entry) => entry.total)) || 1;
    const rows = stages.map((stage) => {
      const times = entries.map((entry) => entry.seconds[stage]).filter(isNumber);
      return [stage, spent(sum(times) / times.length), spent(quantile(times, 0.5)), spent(quantile(times, 0.95)), ((100 * sum(times)) / all).toFixed(1) + " %"];
    });
    sheet({ caption: "Time per photo and stage", header: ["stage", "mean", "median", "95th percentile", "share"], rows }, false);
  }

  // ---- cards ---------------------------------------------------------------------------------------------------------------
  function thumb(number, css, alt) {
    if (number < 0) return make("div", { css: "thumb empty " + css, text: "no picture" });
    return make("img", { css: "thumb " + css, src: data.thumbnails[number], alt, loading: "lazy", decoding: "async" });
  }
  function candidate(entry, one) {
    const css = one.isRight === null ? "" : one.isRight ? "right" : "wrong";
    const caption = make("figcaption", {});
    const mark = css === "right" ? "✓ " : css === "wrong" ? "✕ " : "";
    caption.append(make("b", { css, text: mark + one.rank + ". " }), make("b", { text: isNumber(one.similarity) ? one.similarity.toFixed(3) : "–" }));
    if (isNumber(one.inliers)) caption.append(make("div", {}, make("b", { text: one.inliers }), " inliers"));
    if (one.point && entry.truth) caption.append(make("div", { text: metres(apart(one.point, entry.truth)) + " off" }));
    caption.append(make("div", { css: "name", text: base(one.name), title: one.name }));
    const alt = "Candidate " + one.rank + (css ? ", " + (css === "right" ? "the right place" : "another place") : "") + ": " + base(one.name);
    return make("figure", {}, thumb(one.photo, css, alt), caption);
  }
  function facts(entry) {
    const list = [];
    const add = (label, value) => list.push(make("div", {}, make("span", { text: label + " " }), value));
    if (entry.point) add(entry.status === "unknown" ? "best guess" : "at", entry.point.map((value) => value.toFixed(6)).join(", "));
    if (isNumber(entry.radius)) add("within", metres(entry.radius) + " (90 %)");
    if (isNumber(entry.heading)) add("looking", Math.round(entry.heading) + "°");
    if (isNumber(entry.error)) add("error", metres(entry.error));
    if (isNumber(entry.confidence)) {
      const level = make("i");
      level.style.width = 100 * entry.confidence + "%";
      add("confidence", make("b", {}, (100 * entry.confidence).toFixed(entry.confidence > 0.995 ? 1 : 0) + " %", make("span", { css: "meter" }, level)));
    }
    return make("div", { css: "facts" }, ...list);
  }
  function footOf(entry) {
    const foot = make("div", { css: "foot" });
    if (entry.total > 0) {
      const parts = Object.entries(entry.seconds).filter(([, value]) => isNumber(value));
      const stages = make("span", { css: "stages", "aria-hidden": "true" });
      for (const [, value] of parts) {
        const part = make("i");
        part.style.flex = String(Math.max(value, 1e-9));
        stages.append(part);
      }
      foot.append(stages, make("span", { text: parts.map(([stage, value]) => stage + " " + spent(value)).join(" · ") }));
    }
    if (hasMap && whereOf(entry).length) foot.append(make("button", { type: "button", css: "tomap", text: "Show on map", onclick: () => { select(entry.id, false); frame([entry]); } }));
    return foot;
  }
  function card(entry) {
    const chips = [make("span", { css: "chip " + (entry.status === "unknown" ? "unknown" : "located"), text: entry.status })];
    if (entry.verdict) chips.push(make("span", { css: "chip " + entry.verdict, text: (entry.verdict === "right" ? "✓ " : "✕ ") + entry.verdict }));
    if (entry.isUnverified) chips.push(make("span", { css: "chip plain", text: "unverified" }));
    const heading = make("h2", {}, base(entry.name));
    if (folder(entry.name)) heading.append(make("small", { text: folder(entry.name) }));
    const query = make("figure", {}, thumb(entry.photo, "query", "Query: " + base(entry.name)), make("figcaption", { text: "the photo asked about" }));
    const node = make("article", { css: "card", id: "q" + entry.id, tabIndex: -1 }, make("div", { css: "head" }, heading, ...chips), facts(entry));
    if (entry.note) node.append(make("p", { css: "reason", text: entry.note }));
    if (entry.reason) node.append(make("p", { css: "reason muted", text: entry.reason }));
    node.append(make("div", { css: "photos" }, query, make("div", { css: "cands" }, ...entry.candidates.map((one) => candidate(entry, one)))));
    if (entry.match >= 0) {
      node.append(make("details", { css: "match" }, make("summary", { text: "Inliers drawn" }), make("img", { src: data.thumbnails[entry.match], alt: "Inliers between photo and candidate" })));
    }
    node.append(footOf(entry));
    node.addEventListener("click", () => select(entry.id, false));
    return node;
  }

  // ---- filters, order, search ----------------------------------------------------------------------------------------------
  const passes = (entry) => entry.name.toLowerCase().includes(state.text);
  function refresh() {
    const found = entries.filter(passes);
    for (const [name, , test] of FILTERS) {
      const button = byId("f-" + name);
      const number = found.filter(test).length;
      button.querySelector("b").textContent = number.toLocaleString("en");
      button.classList.toggle("none", number === 0);
      button.setAttribute("aria-pressed", String(state.filter === name));
    }
    state.shown = found.filter(FILTERS.find((filter) => filter[0] === state.filter)[2]);
    const order = ORDERS[state.order][1];
    if (order) state.shown.sort((a, b) => order(a) - order(b));
    state.limit = CHUNK;
    byId("queries").replaceChildren(...state.shown.slice(0, state.limit).map(card));
    announce();
    redraw();
  }
  function announce() {
    const number = Math.min(state.limit, state.shown.length);
    byId("shown").textContent = state.shown.length ? number.toLocaleString("en") + " of " + state.shown.length.toLocaleString("en") + " shown" : "No query is like that.";
    byId("more").hidden = number === state.shown.length;
  }
  function more() {
    byId("queries").append(...state.shown.slice(state.limit, state.limit + CHUNK).map(card));
    state.limit += CHUNK;
    announce();
  }
  function choose(name) { state.filter = name; refresh(); }
  function select(id, isScrolled) {
    state.on = id;
    while (state.shown.findIndex((entry) => entry.id === id) >= state.limit) more();
    document.querySelectorAll(".card.on").forEach((node) => node.classList.remove("on"));
    const node = byId("q" + id);
    if (node) {
      node.classList.add("on");
      if (isScrolled) { node.scrollIntoView({ block: "start" }); node.focus({ preventScroll: true }); }
    }
    redraw();
  }
  function step(by) {
    if (!state.shown.length) return;
    const at = state.shown.findIndex((entry) => entry.id === state.on);
    select(state.shown[at < 0 ? 0 : Math.min(state.shown.length - 1, Math.max(0, at + by))].id, true);
  }

  // ---- map: Web Mercator metres, everything placed anew at each change of view --------------------------------------------
  const map = byId("map");
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
  const size = () => [map.clientWidth || 400, map.clientHeight || 300];
  function screen(point) {
    const [x, y] = project(point), [w, h] = size();
    return [(x - view.x) * view.scale + w / 2, (y - view.y) * view.scale + h / 2];
  }
  function frame(list) {
    // One entry: its answer, truth and first candidate. All entries: what is answered or known, not far strays among the candidates.
    let points = list.flatMap((entry) => [entry.point, entry.truth].filter(Boolean));
    if (list.length === 1 || !points.length) points = points.concat(list.flatMap((entry) => entry.candidates.slice(0, list.length === 1 ? 3 : 1).map((one) => one.point).filter(Boolean)));
    if (!points.length) return;
    const xy = points.map(project), xs = xy.map((p) => p[0]), ys = xy.map((p) => p[1]);
    const low = (values) => values.reduce((a, b) => Math.min(a, b)), high = (values) => values.reduce((a, b) => Math.max(a, b));
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
    requestAnimationFrame(() => { isDue = false; map.replaceChildren(...layers()); });
  }
  const near = ([x, y], margin = 20) => { const [w, h] = size(); return x > -margin && y > -margin && x < w + margin && y < h + margin; };
  function layers() {
    const parts = [graticule()];
    const list = state.shown;
    const cross = (path, css) => draw("path", { d: path, class: css });
    if (visible.candidates) {
      const seen = new Set();
      for (const entry of list) for (const one of entry.candidates) if (one.point) seen.add(one.point.join());
      parts.push(cross([...seen].map((key) => screen(key.split(",").map(Number))).filter((p) => near(p)).map(([x, y]) => `M${x.toFixed(1)} ${y.toFixed(1)}h0`).join(""), "cand"));
    }
    if (visible.radius) {
      for (const entry of list) {
        if (!entry.point || !isNumber(entry.radius) || entry.status === "unknown") continue;
        const p = screen(entry.point), r = (entry.radius / Math.cos(rad(entry.point[0]))) * view.scale;
        if (near(p, r)) parts.push(draw("circle", { cx: p[0], cy: p[1], r, class: "radius " + colour(entry) }));
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
    if (visible.answers) for (const entry of list) if (entry.point) { const p = screen(entry.point); if (near(p)) parts.push(answer(entry, p)); }
    parts.push(scaleBar());
    return parts;
  }
  const colour = (entry) => (entry.status === "unknown" ? "c-unknown" : entry.verdict ? "c-" + entry.verdict : "c-none");
  function answer(entry, [x, y]) {
    const node = draw("g", { class: "answer" + (entry.id === state.on ? " on" : ""), transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`, "data-id": entry.id });
    if (isNumber(entry.heading)) node.append(draw("line", { x1: 0, y1: 0, x2: 15 * Math.sin(rad(entry.heading)), y2: -15 * Math.cos(rad(entry.heading)), class: "aim " + colour(entry) }));
    node.append(draw("circle", { r: 6, class: "dot " + colour(entry) }));
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

  // ---- start ---------------------------------------------------------------------------------------------------------------
  tiles();
  data.tables.forEach((table, i) => sheet(table, i === 0));
  stageTable();
  for (const [name, text, test] of FILTERS) {
    const isNeeded = name === "matched" || name === "right" ? entries.some(test) : name !== "wrong" || hasTruth;
    byId("filters").append(make("button", { type: "button", id: "f-" + name, hidden: !isNeeded, onclick: () => choose(name) }, text, make("b")));
  }
  ORDERS.forEach(([text], i) => byId("sort").append(make("option", { value: String(i), text })));
  byId("sort").onchange = (event) => { state.order = Number(event.target.value); refresh(); };
  byId("search").oninput = (event) => { state.text = event.target.value.toLowerCase(); refresh(); };
  byId("more").onclick = more;
  const isDark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const nameTheme = () => { byId("theme").textContent = isDark() ? "Light" : "Dark"; };
  byId("theme").onclick = () => { document.documentElement.dataset.theme = isDark() ? "light" : "dark"; nameTheme(); };
  nameTheme();
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
    else if (event.key === "m" && hasMap) { if (entries[state.on]) frame([entries[state.on]]); map.focus(); }
    else if (/^[1-7]$/.test(event.key)) { const buttons = [...byId("filters").children].filter((node) => !node.hidden); buttons[Number(event.key) - 1]?.click(); }
    else return;
    event.preventDefault();
  });
  byId("mapbox").hidden = !hasMap;
  document.querySelector(".split").classList.toggle("nomap", !hasMap);
  refresh();
  if (hasMap) { legend(); drive(); frame(entries); }
})();
