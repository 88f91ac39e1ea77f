// The service's page: its state, how it asks, and its two halves. Nothing is asked but the service itself.
import { byId, make } from "./shared.js";
import { startAsking } from "./asking.js";
import { startAtlas } from "./atlas.js";
import { startReview } from "./review.js";

const about = JSON.parse(byId("about").textContent);
let token = about.token;
const thumbnails = new Map();

// One request; what is refused is thrown as a sentence.
export async function ask(path, options = {}) {
  const headers = { ...(options.headers ?? {}), ...(token ? { Authorization: "Bearer " + token } : {}) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch {
    throw new Error("the service does not answer; is it still running?");
  }
  if (answer.ok) return answer;
  const refused = await answer.json().catch(() => ({}));
  const later = answer.headers.get("Retry-After");
  throw new Error((refused.error ?? "this failed (" + answer.status + ")") + (later ? ", in " + later + " s" : ""));
}
export const askJson = async (path, options) => (await ask(path, options)).json();
export const sendJson = (path, body) =>
  askJson(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

export const database = () => byId("database").value;

export function say(sentence) {
  byId("notice").textContent = sentence;
  byId("notice").hidden = !sentence;
}

// A picture that only who has the token may see cannot be an address: it is fetched, and shown from memory.
export function picture(address, alt) {
  const image = make("img", { css: "thumb", alt });
  const known = thumbnails.get(address) ?? ask(address).then((answer) => answer.blob()).then((blob) => URL.createObjectURL(blob));
  thumbnails.set(address, known);
  known.then((url) => { image.src = url; }, () => {
    thumbnails.delete(address);
    image.replaceWith(make("div", { css: "thumb empty", text: "not there" }));
  });
  return image;
}
export const thumbnail = (id, alt, side = 240) =>
  picture("/v1/photos/" + encodeURIComponent(id) + "/thumbnail?side=" + side + "&database=" + encodeURIComponent(database()), alt);

export function save(text, name, type) {
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function theme() {
  const isDark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const show = () => { byId("theme").textContent = isDark() ? "Light" : "Dark"; };
  byId("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    show();
    atlas.colour();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { show(); atlas.colour(); });
  show();
}

function tab(name) {
  for (const one of ["ask", "review"]) {
    byId(one).hidden = one !== name;
    byId("tab-" + one).setAttribute("aria-pressed", String(one === name));
  }
  document.querySelector(".split").classList.toggle("reviewing", name === "review");
  atlas.clear();
  if (name === "ask") asking.show(); else review.show();
}

async function open() {
  say("");
  let databases;
  try {
    databases = await askJson("/v1/databases");
  } catch (error) {
    say(error.message);
    return;
  }
  byId("database").replaceChildren(...databases.map((one) => make("option", { value: one.name, text: one.name + " (" + one.num_photos.toLocaleString("en") + " photos)" })));
  const goTo = () => {
    const box = databases.find((one) => one.name === database())?.box;
    if (box) atlas.goTo(box);
  };
  byId("database").addEventListener("change", goTo);
  goTo();
  if (about.hasFolders && !about.isReadOnly) {
    byId("tab-review").hidden = false;
    byId("folder").replaceChildren(...(await askJson("/v1/folders")).map((name) => make("option", { value: name, text: name })));
  }
}

const atlas = await startAtlas(about.tiles);
const asking = startAsking(atlas, about);
const review = startReview(atlas);
theme();
byId("tab-ask").addEventListener("click", () => tab("ask"));
byId("tab-review").addEventListener("click", () => tab("review"));
byId("tokenbox").hidden = !about.needsToken;
byId("token").addEventListener("change", (event) => { token = event.target.value.trim(); open(); });
if (about.needsToken) say("This service needs its token: type it above. It stays in this page and is forgotten with it.");
else await open();
document.documentElement.dataset.ready = "yes";
