/** What is to be done: the scan, the model, and who it is. */

import { make, one, rgb } from "./dom.js";

let about;
let scan = null;

export function show(told, onModel) {
  about = told;
  one("about").textContent =
    `Veilseg ${told.version}. Scans and what is made of them are deleted when this page is closed, ` +
    `at the latest ${Math.round(told.keep_minutes)} minutes after their last use.`;
  one("models").replaceChildren(...told.models.map(card));
  const changed = () => {
    offer();
    onModel(chosen().model);
  };
  one("models").onchange = (event) => {
    event.target.closest("label").scrollIntoView({ block: "nearest" });
    changed();
  };
  changed();
}

/** The model and the subject as they are now. */
export function chosen() {
  const name = one("order").elements.model.value;
  return { model: about.models.find((model) => model.name === name), subject: one("subject").value.trim() };
}

export function showScan(found) {
  scan = found;
  one("drop").hidden = scan !== null;
  one("chosen").hidden = scan === null;
  if (scan) {
    one("chosen-name").textContent = scan.name;
    one("chosen-what").textContent = scan.what;
  }
  offer();
}

export function busy(is) {
  for (const part of one("order").querySelectorAll("fieldset")) part.disabled = is;
}

function offer() {
  const { model } = chosen();
  const leaves = model.servers.length > 0;
  const open = leaves && model.scheme === "plain";
  const button = one("send");
  button.disabled = scan === null;
  button.classList.toggle("danger", open);
  const does = !leaves ? "Segment on this site" : open ? "Send unprotected" : "Protect and send";
  button.textContent = scan ? does : "Choose a scan first";
  one("subject").required = model.needs_subject;
  one("send-says").textContent = open
    ? "This model takes the image as it is: the server will have it."
    : leaves
      ? "Only the protected image leaves this site."
      : "Nothing leaves this site.";
  one("route").textContent = leaves
    ? `Server: ${model.servers.map((url) => new URL(url).host).join(", ")}`
    : "No server: all on this site";
}

function card(model, index) {
  const id = `model-${index}`;
  const open = model.scheme === "plain" && model.servers.length;
  const radio = make("input", { type: "radio", name: "model", value: model.name, id, checked: !index });
  const badge = model.servers.length ? model.words.title : "Stays on this site";
  const structures = model.labels.map((label) => {
    const swatch = make("span", { className: "swatch" });
    swatch.style.background = rgb(label.rgb);
    return make("span", { className: "structure" }, swatch, label.name);
  });
  const what = make("span", { className: "muted small" }, ` ${model.dimension}D, ${model.channels.join(", ")}`);
  const said = make("span", { className: "about" },
    make("span", {}, make("strong", {}, model.name), what),
    make("span", { className: open ? "badge open" : "badge" }, badge),
    make("span", { className: "structures small" }, ...structures));
  return make("label", { className: "model", htmlFor: id }, radio, said);
}
