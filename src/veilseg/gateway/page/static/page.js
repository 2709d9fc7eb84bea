/** The page: a scan is chosen, sent and looked at. One of these at a time; each tab by itself. */

import * as api from "./api.js";
import { one } from "./dom.js";
import * as files from "./files.js";
import * as found from "./found.js";
import * as given from "./given.js";
import * as order from "./order.js";
import * as pictures from "./pictures.js";
import * as problem from "./problem.js";
import * as steps from "./steps.js";

const RETRY_MS = 1500;
const main = one("main");
const state = { about: null, scan: null, upload: null, task: null, leaving: new AbortController() };

const say = (text) => (one("said").textContent = text);
const away = (is) => (one("away").hidden = !is);
const at = (stage) => (main.dataset.state = stage);

async function open() {
  while (true) {
    try {
      state.about = await api.about();
      break;
    } catch (error) {
      if ([401, 403].includes(error.status)) return askForToken(error);
      away(true);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
  away(false);
  one("loading").hidden = one("entry").hidden = true;
  for (const id of ["order", "pictures", "below"]) one(id).hidden = false;
  order.show(state.about, modelChosen);
  clear();
  at("empty");
}

function clear() {
  problem.show(null);
  pictures.clear();
  found.clear();
  modelChosen(order.chosen().model);
}

function askForToken(error) {
  one("loading").hidden = true;
  one("entry").hidden = false;
  one("entry-problem").textContent = one("token").value ? error.message : "";
  one("token").focus();
  at("locked");
}

one("entry").onsubmit = (event) => {
  event.preventDefault();
  api.useToken(one("token").value);
  open();
};

function modelChosen(model) {
  given.show(state.about, model, null);
  given.showLedger(model, null);
  pictures.name(model);
}

function choose(read) {
  let scan;
  try {
    scan = files.scan(read, state.about);
  } catch (error) {
    problem.show({ status: "file", message: error.message });
    return;
  }
  discard();
  state.scan = scan;
  order.showScan(scan);
  bring();
  say(`${scan.name} chosen`);
}

/** The way to the gateway, which is on this site, begins before anybody says that it is to be sent. */
function bring() {
  state.leaving = new AbortController();
  const { files: ofScan } = state.scan;
  const upload = { done: 0, total: 0 };
  upload.session = api.upload(
    ofScan,
    (done, total) => Object.assign(upload, { done, total }) && upload.told?.(),
    state.leaving.signal,
  );
  // Told when it is waited for.
  upload.session.catch(() => {});
  state.upload = upload;
}

/** Whoever goes, or takes another scan, leaves nothing behind at the gateway. */
function discard() {
  if (state.task) api.cancel(state.task).catch(() => {});
  state.leaving.abort();
  state.upload?.session.then(api.forget).catch(() => {});
  Object.assign(state, { scan: null, upload: null, task: null });
  clear();
  at("empty");
}

async function send(allowRepeat = false) {
  const { model, subject } = order.chosen();
  problem.show(null);
  order.busy(true);
  steps.begin();
  one("cancel").focus({ preventScroll: true });
  at("working");
  try {
    const result = await segment(model, subject, allowRepeat);
    steps.show({ stage: "showing" }, model.servers.length);
    found.show(result, model, state.task, state.scan.stem);
    given.show(state.about, model, result);
    given.showLedger(model, result);
    await pictures.show(result, model, state.task);
    at("shown");
    say("Done. The segmentation is shown.");
  } catch (error) {
    fail(error);
  } finally {
    order.busy(false);
    steps.end();
    goOn();
  }
}

/** Who used the keyboard goes on where something is to be done, and not at the top again. */
function goOn() {
  const next = ["repeat", "again", "slice", "overlay"].map(one);
  next.find((control) => control.checkVisibility())?.focus({ preventScroll: true });
}

async function segment(model, subject, allowRepeat) {
  const session = await brought();
  const fields = { session_id: session, model: model.name, subject, allow_repeat: allowRepeat };
  state.task = await api.begin(fields);
  let last = { stage: "queued" };
  for await (last of api.states(state.task, away)) steps.show(last, model.servers.length);
  if (last.stage === "done") return last.result;
  throw Object.assign(new Error(last.detail), { status: last.stage === "failed" ? last.status : "cancelled" });
}

async function brought() {
  const { upload } = state;
  upload.told = () => steps.show({ stage: "uploading", ...upload }, true);
  upload.told();
  return upload.session.finally(() => (upload.told = null));
}

function fail(error) {
  if (error.status === 401) return askForToken(error);
  if (!("status" in error)) error.status = error.name === "AbortError" ? "cancelled" : "page";
  at("failed");
  problem.show(error);
}

one("cancel").onclick = () => {
  one("cancel").disabled = true;
  one("cancel").textContent = "Cancelling …";
  if (state.task) api.cancel(state.task).catch(() => {});
  else state.leaving.abort();
};

one("again").onclick = async () => {
  if (!state.scan) return;
  // An upload that failed, or was deleted meanwhile, is made again.
  const there = await state.upload.session.then(api.known, () => false);
  if (!there) bring();
  state.task = null;
  send();
};
one("repeat").onclick = () => send(true);
one("order").onsubmit = (event) => {
  event.preventDefault();
  state.task = null;
  send();
};
one("other").onclick = () => {
  discard();
  order.showScan(null);
  one("files").focus();
};

for (const id of ["files", "folder"])
  one(id).onchange = () => {
    if (one(id).files.length) choose(files.picked(one(id)));
    one(id).value = "";
  };

// Anywhere on the page, so that no browser opens the scan in place of it.
let inside = 0;
const hover = (change) => {
  inside = Math.max(0, inside + change);
  one("drop").classList.toggle("over", inside > 0 && main.dataset.state !== "working");
};
addEventListener("dragenter", () => hover(1));
addEventListener("dragleave", () => hover(-1));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", async (event) => {
  event.preventDefault();
  hover(-inside);
  if (!state.about || main.dataset.state === "working") return;
  choose(await files.dropped(event.dataTransfer));
});
addEventListener("pagehide", discard);

one("look").onsubmit = async (event) => {
  event.preventDefault();
  const subject = one("look-subject").value.trim();
  if (!subject) return one("look-subject").focus();
  try {
    await given.lookUp(order.chosen().model, subject);
  } catch (error) {
    one("look-body").textContent = error.message;
  }
};

open();
