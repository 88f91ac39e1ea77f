// Reviewing: proposed places for a folder's photos, accepted one by one or together, moved on the map, written and taken back.
import { base, byId, confidenceInWords, isNumber, make, metres } from "./shared.js";
import { ask, askJson, database, picture, say, sendJson } from "./service.js";

const FILTERS = [
  ["all", "All", () => true],
  ["sure", "Verified", (one) => one.is_verified && one.place],
  ["unsure", "Not verified", (one) => !one.is_verified && one.place],
  ["none", "No place", (one) => !one.place],
  ["accepted", "Accepted", (one) => one.choice === "accept"],
  ["written", "Written", (one) => one.isWritten],
];
const REASONS = { match: "by what it shows", track: "by a GPX track", time: "by the photos before and after", "both agree": "by what it shows and when", disagree: "what it shows and when contradict each other", none: "nothing places it" };

export function startReview(atlas) {
  let proposals = [], filter = "all", on = null, job = null;

  // Server-sent events over fetch: an EventSource could send no token.
  async function follow(id) {
    const reader = (await ask("/v1/jobs/" + id + "/events")).body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "", last = null;
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return last;
      const events = (text += value).split("\n\n");
      text = events.pop();
      for (const event of events.filter((one) => one.startsWith("data: "))) {
        last = JSON.parse(event.slice(6));
        byId("reviewing").textContent = { queued: "Waiting …", running: "Looking at " + (last.num_total ?? "the") + " photos …" }[last.state] ?? "";
      }
    }
  }

  async function find(event) {
    event.preventDefault();
    say("");
    byId("find").disabled = true;
    try {
      const body = { folder: byId("folder").value, ...(byId("source").value === "database" ? { database: database() } : {}) };
      const begun = await sendJson("/v1/jobs/tag", body);
      await follow(begun.id);
      job = await askJson("/v1/jobs/" + begun.id);
      if (job.state !== "done") throw new Error(job.error || "the review ended early");
      const found = await askJson("/v1/jobs/" + job.id + "/results?num=10000");
      proposals = found.results.map((one, number) => ({ ...one, number, place: one.position, choice: "", isWritten: false }));
      const { num_photos: all, num_geotagged: tagged, num_missing: missing } = job.summary;
      byId("reviewing").textContent = all + " photos, " + tagged + " with a geotag, " + missing + " without.";
      byId("tools").hidden = !proposals.length;
      on = proposals.find((one) => one.place) ?? proposals[0] ?? null;
      list();
    } catch (error) {
      byId("reviewing").textContent = "";
      say(error.message);
    }
    byId("find").disabled = false;
  }

  const shown = () => proposals.filter(FILTERS.find(([name]) => name === filter)[2]);

  function list() {
    byId("reviewfilters").replaceChildren(...FILTERS.map(([name, words, is]) => {
      const button = make("button", { type: "button", "aria-pressed": String(name === filter) }, words, make("b", { text: proposals.filter(is).length }));
      button.addEventListener("click", () => { filter = name; list(); });
      return button;
    }));
    const accepted = proposals.filter((one) => one.choice === "accept" && !one.isWritten).length;
    byId("write").disabled = !accepted;
    byId("write").textContent = accepted ? "Write " + accepted + " accepted" : "Write accepted";
    byId("undo").disabled = !job?.summary?.can_undo;
    byId("proposals").replaceChildren(...shown().map(row));
    map();
  }

  function row(one) {
    const node = make("li", { css: "card proposal" + (one === on ? " on" : ""), "aria-current": String(one === on) });
    const image = picture("/v1/jobs/" + job.id + "/photo?number=" + one.number, "Photo " + base(one.photo));
    const place = one.place ? one.place.lat.toFixed(6) + ", " + one.place.lon.toFixed(6) + (one.isMoved ? " (moved)" : isNumber(one.place.radius_m) ? " within " + metres(one.place.radius_m) : "") : "no place";
    const sure = isNumber(one.match?.confidence) && one.placed_by !== "time" && one.placed_by !== "track" ? "Confidence: " + confidenceInWords(one.match.confidence) : "";
    const choice = make("div", { css: "choice" });
    for (const [name, words] of [["accept", "Accept"], ["skip", "Leave out"]]) {
      const button = make("button", { type: "button", text: words, "aria-pressed": String(one.choice === name), "aria-label": words + " " + base(one.photo), disabled: one.isWritten || (name === "accept" && !one.place) });
      button.addEventListener("click", (event) => { event.stopPropagation(); choose(one, one.choice === name ? "" : name); });
      choice.append(button);
    }
    if (one.isWritten) choice.append(make("span", { css: "chip right", text: "written" }));
    node.append(image, make("div", {}, make("p", { css: "name", text: one.photo }), make("p", { text: place + (one.place ? countryOf(one.place) : "") }),
      make("p", { css: "muted", text: [REASONS[one.placed_by], sure].filter(Boolean).join(". ") }), one.reason ? make("p", { css: "muted", text: one.reason }) : null), choice);
    node.addEventListener("click", () => { on = one; list(); });
    one.node = node;
    return node;
  }

  const countryOf = (place) => { const name = atlas.country(place.lat, place.lon); return name ? ", " + name : ""; };

  function choose(one, choice) {
    if (one.isWritten || (choice === "accept" && !one.place)) return;
    one.choice = choice;
    list();
  }

  function map() {
    atlas.clear();
    if (!on) return;
    for (const one of shown().filter((other) => other.place && other !== on).slice(0, 200)) {
      atlas.mark(one.place, { status: one.is_verified ? "located" : "unknown", label: base(one.photo), onClick: () => { on = one; list(); } });
    }
    const place = on.place ?? on.match?.position;
    if (!place) return;
    atlas.radius(on.isMoved ? null : on.place, on.place?.radius_m);
    atlas.mark(place, {
      heading: on.isMoved ? null : place.heading_deg, status: on.is_verified ? "located" : "unknown", isOn: true, label: base(on.photo) + ", drag to correct",
      onMove: (moved) => { if (!on.isWritten) Object.assign(on, { place: moved, isMoved: true, choice: "accept" }); list(); },
    });
    if (!on.isMoved) atlas.fly(place, Math.max(place.radius_m ?? 0, 20));
    byId("mapwords").textContent = base(on.photo) + ": drag the pin to correct its place.";
  }

  function step(change) {
    const visible = shown();
    if (!visible.length) return;
    on = visible[Math.min(visible.length - 1, Math.max(0, visible.indexOf(on) + change))];
    list();
    on.node.scrollIntoView({ block: "nearest" });
  }

  async function write() {
    const accepted = proposals.filter((one) => one.choice === "accept" && !one.isWritten);
    try {
      const done = await sendJson("/v1/jobs/" + job.id + "/accepted", {
        accepted: accepted.map((one) => ({ photo: one.photo, ...(one.isMoved ? { lat: one.place.lat, lon: one.place.lon } : {}) })),
      });
      const skipped = new Set(done.skipped.map((one) => base(one.photo).replace(/\.xmp$/, "")));
      for (const one of accepted) one.isWritten = !skipped.has(base(one.photo));
      job.summary.can_undo = done.can_undo;
      byId("reviewing").textContent = done.num_written + " sidecars written" + (done.skipped.length ? "; not written: " + done.skipped.map((one) => base(one.photo) + " (" + one.reason + ")").join(", ") : "") + ". They can be taken back.";
    } catch (error) {
      say(error.message);
    }
    list();
  }

  async function undo() {
    try {
      const done = await sendJson("/v1/jobs/" + job.id + "/undo", {});
      const kept = new Set(done.kept.map((one) => base(one.photo).replace(/\.xmp$/, "")));
      for (const one of proposals) one.isWritten = one.isWritten && (kept.has(base(one.photo)) || done.can_undo);
      job.summary.can_undo = done.can_undo;
      byId("reviewing").textContent = done.num_removed + " sidecars taken back" + (done.kept.length ? "; kept, because they were changed: " + done.kept.map((one) => one.photo).join(", ") : "") + ".";
    } catch (error) {
      say(error.message);
    }
    list();
  }

  byId("begin").addEventListener("submit", find);
  byId("acceptall").addEventListener("click", () => { for (const one of shown()) if (one.place && !one.isWritten) one.choice = "accept"; list(); });
  byId("write").addEventListener("click", write);
  byId("undo").addEventListener("click", undo);
  document.addEventListener("keydown", (event) => {
    if (byId("review").hidden || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, #map")) return;
    if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
    else if (event.key === "a" && on) { choose(on, "accept"); step(1); }
    else if (event.key === "x" && on) { choose(on, "skip"); step(1); }
    else return;
    event.preventDefault();
  });

  return { show: list };
}
