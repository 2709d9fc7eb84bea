/** The four pictures with their slider. Without WebGL or NiiVue everything else goes on. */

import * as api from "./api.js";
import { make, one } from "./dom.js";
import { missing, Panes } from "./panes.js";

const VIEWS = ["image", "proxy", "answer", "labels"];
let panes = null;
let ready = Promise.resolve();

export function open() {
  const places = [...document.querySelectorAll(".pane")];
  for (const place of places) place.replaceChildren(make("p", { className: "nothing" }, "Nothing yet"));
  one("pane-problem").textContent = missing();
  if (missing()) return;
  panes = new Panes(places, follow);
  // Shaders take a moment: while somebody looks for a scan, and not when it is to be shown.
  ready = new Promise((resolve) => requestIdleCallback(() => resolve(panes.ready())));
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
  name(model);
  if (!panes) return;
  const loaded = VIEWS.map((view) => api.buffer(`/page/tasks/${task}/views/${view}`));
  const [, ...content] = await Promise.all([ready, ...loaded]);
  await panes.show(Object.fromEntries(VIEWS.map((view, index) => [view, content[index]])), {
    linked: result.linked,
    flat: model.dimension === 2,
    pixels: result.unit === "pixel",
    colours: Object.fromEntries(model.labels.map((label) => [label.value, label.rgb])),
  });
  for (const nothing of document.querySelectorAll(".pane .nothing")) nothing.remove();
  one("tools").hidden = false;
  one("planes").hidden = one("slide").hidden = model.dimension === 2;
  channels(model);
  panes.setOverlay(Number(one("overlay").value));
  follow();
}

function channels({ channels: names, dimension }) {
  // In 2D three channels are one picture in colours, and of others the first is shown.
  one("channel-line").hidden = names.length < 2 || dimension === 2;
  one("channel").replaceChildren(...names.map((name, value) => make("option", { value }, name)));
}

/** The slider goes where the pictures are. */
function follow() {
  const { count, at } = panes.range;
  const slider = one("slice");
  slider.max = count - 1;
  slider.value = at;
  tell();
}

function tell() {
  one("slice").setAttribute("aria-valuetext", panes.words);
  one("overlay").disabled = panes.plane === "solid";
  one("slice-says").textContent = panes.plane === "solid" ? `Turn ${panes.range.at}°` : `Slice ${panes.range.at + 1} of ${panes.range.count}`;
}

one("slice").oninput = () => {
  panes.moveTo(Number(one("slice").value));
  tell();
};
one("planes").onchange = (event) => {
  panes.setPlane(event.target.value);
  follow();
};
one("overlay").oninput = () => panes?.setOverlay(Number(one("overlay").value));
one("channel").onchange = () => panes.setChannel(Number(one("channel").value));
// In a picture, keys step through the slices.
one("pictures").addEventListener("keydown", (event) => {
  const step = { ArrowUp: 1, ArrowDown: -1, PageUp: 5, PageDown: -5 }[event.key];
  if (!step || event.target.tagName !== "CANVAS") return;
  event.preventDefault();
  one("slice").value = Number(one("slice").value) + step;
  one("slice").oninput();
});
