/** The four pictures with their slider: slices, or solids where NiiVue is there to draw them. */

import * as api from "./api.js";
import { make, one } from "./dom.js";
import { Slices } from "./slices.js";
import { missing, Solids } from "./solids.js";
import { Volume } from "./volume.js";

const VIEWS = ["image", "proxy", "answer", "labels"];
const places = [...document.querySelectorAll(".pane")];
const byView = (values) => Object.fromEntries(VIEWS.map((view, index) => [view, values[index]]));
const slices = new Slices(places, follow);
const solids = new Solids(places, follow);
let shown = null;
let solid = false;

/** Nothing to see; also of the scan before, which must not be taken for the next. */
export function clear() {
  shown = null;
  solid = false;
  slices.clear();
  solids.hide();
  one("tools").hidden = true;
  for (const place of places)
    if (!place.querySelector(".nothing")) place.append(make("p", { className: "nothing" }, "Nothing yet"));
}

/** What a model shows a server, in words. */
export function name(model) {
  const leaves = model.servers.length > 0;
  one("away-name").textContent = leaves ? "The server" : "Nobody: what a server would have";
  one("sees-title").textContent = leaves ? "What the server sees" : "What a server would see";
  one("answers-title").textContent = leaves ? "What it answered" : "What it would answer";
  one("sees").textContent = model.words.sees;
  one("answers").textContent = model.words.answers;
}

export async function show(result, model, task) {
  const loaded = VIEWS.map((view) => api.buffer(`/page/tasks/${task}/views/${view}`));
  const volumes = byView((await Promise.all(loaded)).map((buffer) => new Volume(buffer)));
  const colours = Object.fromEntries(model.labels.map((label) => [label.value, label.rgb]));
  shown = { volumes, linked: result.linked, colours, pixels: result.unit === "pixel" };
  name(model);
  for (const nothing of document.querySelectorAll(".pane .nothing")) nothing.remove();
  const flat = model.dimension === 2;
  one("tools").hidden = false;
  one("planes").hidden = one("slide").hidden = flat;
  one("channel-line").hidden = volumes.image.frames < 2;
  one("channel").replaceChildren(...model.channels.map((channel, value) => make("option", { value }, channel)));
  slices.channel = 0;
  slices.overlay = Number(one("overlay").value);
  solids.hide();
  solid = false;
  document.querySelector("input[value=axial]").checked = true;
  slices.show(volumes, shown);
  follow();
}

/** The slider goes where the pictures are. */
function follow() {
  const { count, at } = solid ? { count: 360, at: Math.round(solids.azimuth) % 360 } : slices.range;
  const slider = one("slice");
  slider.max = count - 1;
  slider.value = at;
  slider.setAttribute("aria-valuetext", solid ? `turned by ${at} degrees` : slices.words);
  one("slice-says").textContent = solid ? `Turn ${at}°` : `Slice ${at + 1} of ${count}`;
}

one("slice").oninput = () => {
  const to = Number(one("slice").value);
  if (solid) solids.turn(to);
  else slices.moveTo(to);
  follow();
};

one("planes").onchange = async ({ target }) => {
  solid = target.value === "solid" && !missing();
  one("pane-problem").textContent = target.value === "solid" ? missing() : "";
  one("overlay").disabled = solid;
  if (!solid) {
    solids.hide();
    if (target.value !== "solid") slices.setPlane(target.value);
  } else {
    one("pane-problem").textContent = "Making the 3D view …";
    // So that this is read before shaders keep the browser busy.
    await new Promise((resolve) => setTimeout(resolve, 50));
    await solids.show(shown);
    one("pane-problem").textContent = "";
  }
  follow();
};

one("overlay").oninput = () => {
  slices.overlay = Number(one("overlay").value);
  slices.draw();
};
one("channel").onchange = () => {
  slices.channel = Number(one("channel").value);
  slices.draw();
};
