// Asking: photos dropped, pasted or chosen; answers with their evidence; what two photos share.
import { base, byId, confidenceInWords, isNumber, make, metres } from "./shared.js";
import { askJson, database, say, save, thumbnail } from "./service.js";

const NUM_SHOWN = 5;
const degrees = (place) => place.lat.toFixed(6) + ", " + place.lon.toFixed(6);

export function startAsking(atlas, about) {
  const answers = [];

  async function take(files) {
    const photos = [...files].filter((file) => file.size > 0);
    say("");
    for (const [number, file] of photos.entries()) {
      byId("progress").textContent = "Looking at " + (photos.length > 1 ? number + 1 + " of " + photos.length + " photos" : "the photo") + " …";
      if (file.size > about.maxBytes - 10000) {
        say(file.name + " is larger than this service takes.");
        continue;
      }
      const form = new FormData();
      form.append("photos", file, file.name || "photo");
      try {
        const found = await askJson("/v1/locate?k=20&database=" + encodeURIComponent(database()), { method: "POST", body: form });
        const entry = { ...found.answers[0], file, database: found.database, url: URL.createObjectURL(file) };
        answers.unshift(entry);
        byId("answers").prepend(card(entry));
        select(entry);
      } catch (error) {
        say((file.name || "The photo") + ": " + error.message);
      }
    }
    byId("progress").textContent = answers.length ? answers.filter((one) => one.status !== "unknown").length + " of " + answers.length + " photos have an answer." : "";
    byId("downloads").hidden = !answers.length;
  }

  function card(entry) {
    const node = make("article", { css: "card answer-card" });
    entry.node = node;
    const chip = { located: "located", matched: "plain", unknown: "unknown" }[entry.status];
    const words = { located: "Located", matched: "This is the place of a known photo", unknown: "Unknown" }[entry.status];
    const image = make("img", { css: "thumb query", src: entry.url, alt: "Your photo " + entry.query });
    image.addEventListener("error", () => image.replaceWith(make("div", { css: "thumb empty", text: "this browser cannot show it" })));
    const body = make("div");
    node.append(
      make("div", { css: "head" }, make("h2", { text: base(entry.query) }), make("span", { css: "chip " + chip, text: words })),
      make("div", { css: "photos" }, make("figure", {}, image), body),
    );
    if (entry.position) body.append(placed(entry));
    if (entry.status === "matched" && entry.candidates.length) body.append(make("p", { text: "The best match has no coordinates: " + base(entry.candidates[0].photo) }));
    if (entry.best_guess) body.append(guess(entry.best_guess));
    if (entry.reason) body.append(make("p", { css: "reason muted", text: entry.reason }));
    if (entry.candidates.length) body.append(candidates(entry));
    node.addEventListener("click", (event) => { if (!event.target.closest("button, a")) select(entry); });
    return node;
  }

  function placed(entry) {
    const { lat, lon, radius_m: radius, heading_deg: heading } = entry.position;
    const country = atlas.country(lat, lon);
    const sure = isNumber(entry.confidence) ? confidenceInWords(entry.confidence) + " (" + Math.round(100 * entry.confidence) + " %)" : "not verified: the best match, whether or not it is the place";
    const facts = [isNumber(radius) ? "within " + metres(radius) : "", isNumber(heading) ? "looking " + Math.round(heading) + "°" : "", country].filter(Boolean).join(", ");
    const copy = make("button", { type: "button", text: "Copy coordinates" });
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(degrees(entry.position)).then(() => { copy.textContent = "Copied"; }, () => say(degrees(entry.position)));
    });
    const show = make("button", { type: "button", text: "Show on the map" });
    show.addEventListener("click", () => select(entry));
    const link = make("a", { css: "button", href: "https://www.openstreetmap.org/?mlat=" + lat + "&mlon=" + lon + "#map=17/" + lat + "/" + lon, target: "_blank", rel: "noopener noreferrer", text: "Open in an online map" });
    return make("div", {}, make("p", { css: "coordinates", text: degrees(entry.position) }), make("p", { text: facts }), make("p", { text: "Confidence: " + sure }), make("div", { css: "row" }, copy, show, link));
  }

  function guess(found) {
    const where = isNumber(found.lat) ? degrees(found) + (isNumber(found.radius_m) ? " within " + metres(found.radius_m) : "") : "the place of " + base(found.photo);
    const sure = isNumber(found.confidence) ? ", " + confidenceInWords(found.confidence) + " (" + Math.round(100 * found.confidence) + " %)" : "";
    return make("p", { css: "guess" }, make("b", { text: "Best guess, not an answer: " }), where + sure);
  }

  function candidates(entry) {
    const list = make("div", { css: "cands" });
    for (const one of entry.candidates.slice(0, NUM_SHOWN)) {
      const picture = one.id ? thumbnail(one.id, "") : make("div", { css: "thumb empty", text: one.photo });
      const button = make("button", { type: "button", css: "thumbbutton", "aria-label": "Compare with candidate " + one.rank + ", " + base(one.photo) }, picture);
      button.addEventListener("click", () => compare(entry, one));
      const points = isNumber(one.num_inliers) ? one.num_inliers + " shared points" : isNumber(one.similarity) ? "similarity " + one.similarity.toFixed(2) : "";
      list.append(make("figure", {}, button, make("figcaption", {}, make("b", { text: one.rank + ". " }), points)));
    }
    return list;
  }

  async function compare(entry, candidate) {
    byId("compare").showModal();
    byId("comparetitle").textContent = base(entry.query) + " and " + base(candidate.photo);
    byId("comparewords").textContent = "Comparing …";
    byId("compared").replaceChildren();
    const said = [];
    for (const [scorer, alt] of [["inliers", "Both photos with lines between the points they share"], ["geowarp", "Both photos with the quadrilaterals that GeoWarp finds the same, and these from one viewpoint"]]) {
      const form = new FormData();
      form.append("photo0", entry.file, "photo");
      for (const [name, value] of Object.entries({ id: candidate.id, database: entry.database, scorer, picture: "true" })) form.append(name, value);
      try {
        const found = await askJson("/v1/match", { method: "POST", body: form });
        if (scorer === "inliers") said.push(found.is_match ? found.num_inliers + " of " + found.num_matches + " points fit one geometry" : "no match: " + found.reason);
        else said.push("from one viewpoint the photos are " + Math.round((100 * found.similarity) / found.cells.flat().length) + " % alike");
        if (found.picture) byId("compared").append(make("img", { src: found.picture, alt }));
      } catch (error) {
        said.push(error.message);
      }
      byId("comparewords").textContent = said.join("; ") + ".";
    }
  }

  function select(entry) {
    for (const one of answers) one.node.classList.toggle("on", one === entry);
    atlas.clear();
    for (const one of [...answers].reverse()) {
      const place = one.position ?? (isNumber(one.best_guess?.lat) ? one.best_guess : null);
      if (place) atlas.mark(place, { heading: one.position?.heading_deg, status: one.status, isOn: one === entry, label: base(one.query) + ": " + degrees(place), onClick: () => { select(one); one.node.scrollIntoView({ block: "nearest" }); } });
    }
    const place = entry.position ?? (isNumber(entry.best_guess?.lat) ? entry.best_guess : null);
    atlas.candidates(entry.candidates.slice(0, NUM_SHOWN).filter((one) => isNumber(one.lat)));
    atlas.radius(place, place?.radius_m);
    if (place) atlas.fly(place, Math.max(place.radius_m ?? 0, 15));
  }

  const located = () => answers.filter((one) => one.position);
  byId("geojson").addEventListener("click", () => save(JSON.stringify({
    type: "FeatureCollection",
    features: located().map((one) => ({
      type: "Feature", geometry: { type: "Point", coordinates: [one.position.lon, one.position.lat] },
      properties: { query: one.query, status: one.status, radius_m: one.position.radius_m, heading_deg: one.position.heading_deg, confidence: one.confidence },
    })),
  }, null, 1), "answers.geojson", "application/geo+json"));
  byId("gpx").addEventListener("click", () => {
    const root = document.implementation.createDocument("http://www.topografix.com/GPX/1/1", "gpx");
    root.documentElement.setAttribute("version", "1.1");
    root.documentElement.setAttribute("creator", "Whence");
    for (const one of located()) {
      const place = root.createElementNS(root.documentElement.namespaceURI, "wpt"), name = root.createElementNS(root.documentElement.namespaceURI, "name");
      place.setAttribute("lat", one.position.lat.toFixed(7));
      place.setAttribute("lon", one.position.lon.toFixed(7));
      name.textContent = one.query;
      place.append(name);
      root.documentElement.append(place);
    }
    save('<?xml version="1.0" encoding="UTF-8"?>\n' + new XMLSerializer().serializeToString(root), "answers.gpx", "application/gpx+xml");
  });
  byId("clear").addEventListener("click", () => {
    answers.splice(0).forEach((one) => URL.revokeObjectURL(one.url));
    byId("answers").replaceChildren();
    byId("downloads").hidden = true;
    byId("progress").textContent = "";
    atlas.clear();
  });
  for (const id of ["files", "camera"]) byId(id).addEventListener("change", (event) => { take(event.target.files); event.target.value = ""; });
  const over = (event) => { event.preventDefault(); byId("drop").classList.toggle("over", event.type === "dragover"); };
  for (const kind of ["dragover", "dragleave"]) document.addEventListener(kind, over);
  document.addEventListener("drop", (event) => { over(event); if (!byId("ask").hidden) take(event.dataTransfer.files); });
  document.addEventListener("paste", (event) => { if (!byId("ask").hidden && event.clipboardData.files.length) take(event.clipboardData.files); });

  return { show: () => { if (answers.length) select(answers.find((one) => one.node.classList.contains("on")) ?? answers[0]); } };
}
