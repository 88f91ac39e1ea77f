// The page: summary, cards, filters. It is joined with map.js into one script, which calls start().
const data = JSON.parse(document.getElementById("data").textContent);
const CHUNK = 40;
const spent = (s) => (s < 0.001 ? "<1 ms" : s < 1 ? Math.round(1000 * s) + " ms" : s.toFixed(2) + " s");
const sum = (list) => list.reduce((total, value) => total + value, 0);
function quantile(list, share) {
  const sorted = [...list].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))];
}
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
  const list = [["", entries.length, "queries"], ["", count("located"), "located"]];
  if (count("matched")) list.push(["", count("matched"), "matched photo only"]);
  list.push(["unknown", count("unknown"), "unknown"], ["", count("unverified"), "unverified"]);
  if (hasTruth) list.push(["right", count("right"), "right"], ["wrong", count("wrong"), "wrong"]);
  const errors = entries.map((entry) => entry.error).filter(isNumber);
  if (errors.length) list.push(["", metres(quantile(errors, 0.5)), "median error"]);
  const inside = entries.filter((entry) => isNumber(entry.error) && isNumber(entry.radius));
  if (inside.length) list.push(["", Math.round((100 * inside.filter((entry) => entry.error <= entry.radius).length) / inside.length) + " %", "truth inside radius"]);
  const times = entries.map((entry) => entry.total).filter((total) => total > 0);
  if (times.length) list.push(["", spent(sum(times) / times.length), "per photo"]);
  byId("tiles").append(...list.map(([css, value, label]) => make("div", { css: "tile " + (value === 0 ? "none" : css) }, make("b", { text: value.toLocaleString("en") }), make("span", { text: label }))));
}
function sheet(table, isOpen) {
  const row = (tag, cells) => make("tr", {}, ...cells.map((cell) => make(tag, { text: cell })));
  const body = make("table", {}, ...(table.header.some((cell) => cell) ? [make("thead", {}, row("th", table.header))] : []), make("tbody", {}, ...table.rows.map((cells) => row("td", cells))));
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
  if (one.isStopped) caption.append(make("div", { text: "comparison cut short", title: "It could not come first any more, so its inliers were not counted to the end." }));
  else if (isNumber(one.inliers)) caption.append(make("div", {}, make("b", { text: one.inliers }), " inliers"));
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
    add("confidence", make("b", {}, (entry.confidence > 0.999 ? ">99.9" : (100 * entry.confidence).toFixed(entry.confidence > 0.99 ? 1 : 0)) + " %", make("span", { css: "meter" }, level)));
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
      part.style.flexGrow = String((100 * value) / entry.total);
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
  if (entry.attention >= 0) {
    node.append(make("details", { css: "match" }, make("summary", { text: "Where the network looked" }), make("img", { src: data.thumbnails[entry.attention], alt: "The photo, red where the network looked, blue where it did not" })));
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

// ---- start ---------------------------------------------------------------------------------------------------------------
function start() {
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
}
