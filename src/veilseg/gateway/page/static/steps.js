/** How far an image is, as the gateway says it. */

import { bytes, make, many, one } from "./dom.js";

const STEPS = [
  ["uploading", "To the gateway"],
  ["queued", "Waiting"],
  ["preparing", "Preparing"],
  ["protecting", "Protecting"],
  ["sending", "Sending"],
  ["recovering", "Recovering"],
  ["showing", "Showing"],
];

export function begin() {
  one("steps").replaceChildren(
    ...STEPS.map(([stage, name]) => {
      const step = make("li", {}, name);
      step.dataset.stage = stage;
      return step;
    }),
  );
  one("progress").hidden = false;
  one("cancel").disabled = false;
  one("cancel").textContent = "Cancel";
}

export function end() {
  one("progress").hidden = true;
}

/** `state`: {stage, done, total}; `leaves`: whether tiles leave this machine. */
export function show(state, leaves) {
  const at = STEPS.findIndex(([stage]) => stage === state.stage);
  [...one("steps").children].forEach((step, index) => {
    step.className = index < at ? "past" : index === at ? "now" : "";
  });
  // Only of what is counted: a bar that moves by itself tells nothing, and costs what it waits for.
  const counted = ["sending", "uploading"].includes(state.stage);
  const after = at > STEPS.findIndex(([stage]) => stage === "sending");
  one("bar").value = counted && state.total ? state.done / state.total : Number(after);
  one("progress-says").textContent = words(state, leaves);
}

function words({ stage, done, total }, leaves) {
  const tiles = total ? `${done} of ${many(total, "tile")} answered` : "the first tile is under way";
  return {
    uploading: `To the gateway on this site: ${total ? `${bytes(done)} of ${bytes(total)}` : "beginning"}`,
    queued: "Waiting for its turn at the gateway",
    preparing: "Preparing: reading, checking, bringing to the model's grid",
    protecting: leaves ? "Protecting: making what the server may see" : "Protecting",
    sending: `${leaves ? "Sending" : "Processing here"}: ${tiles}`,
    recovering: "Recovering the segmentation, here",
    showing: "Drawing",
  }[stage];
}
