/** What was found: sizes of each structure, and what can be taken home. */

import * as api from "./api.js";
import { make, one, rgb } from "./dom.js";

const UNITS = { volumes_ml: ["Volume", "ml", 2], areas_mm2: ["Area", "mm²", 2], areas_px: ["Area", "pixels", 0] };
const DOWNLOADS = {
  nifti: ["NIfTI", ".nii.gz"],
  png: ["PNG", ".png"],
  "dicom-seg": ["DICOM-SEG", ".dcm"],
  "dicom-labelmap": ["DICOM-SEG, labelmap", "-labelmap.dcm"],
};

/** Nothing; also of the scan before. */
export function clear() {
  const says = "Nothing yet. Sizes of each structure and downloads come here.";
  one("found-body").replaceChildren(make("p", { className: "muted" }, says));
}

export function show(result, model, task, stem) {
  const notes = result.warnings.map((warning) => make("p", { className: "note" }, warning));
  one("found-body").replaceChildren(...notes, sizes(result, model), times(result), downloads(result, task, stem));
}

function sizes(result, model) {
  const [what, unit, digits] = UNITS[result.quantity];
  const shown = new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const rows = model.labels.map((label) => {
    const swatch = make("span", { className: "swatch" });
    swatch.style.background = rgb(label.rgb);
    const size = result.sizes[label.name];
    const name = make("th", { scope: "row" }, swatch, label.name);
    return make("tr", {}, name, make("td", { className: "figure" }, size ? shown.format(size) : "none"));
  });
  const head = make("tr", {}, make("th", { scope: "col" }, "Structure"));
  head.append(make("th", { scope: "col", className: "figure" }, `${what}, ${unit}`));
  return make("table", { id: "sizes" }, make("thead", {}, head), make("tbody", {}, ...rows));
}

function times({ seconds }) {
  const total = Object.values(seconds).reduce((sum, one) => sum + one, 0);
  return make("p", { className: "muted small" }, `Segmented in ${total.toPrecision(2)} s.`);
}

function downloads(result, task, stem) {
  const says = make("p", { className: "problem", role: "alert" });
  const buttons = result.downloads.map((kind) => {
    const [name, ending] = DOWNLOADS[kind];
    const button = make("button", { type: "button" }, `Download ${name}`);
    button.dataset.kind = kind;
    button.onclick = async () => {
      says.textContent = "";
      button.disabled = true;
      try {
        save(await api.buffer(`/page/tasks/${task}/download/${kind}`), `${stem}-segmentation${ending}`);
      } catch (error) {
        says.textContent = error.message;
      }
      button.disabled = false;
    };
    return button;
  });
  return make("div", {}, make("p", { className: "line" }, ...buttons), says);
}

function save(content, name) {
  const url = URL.createObjectURL(new Blob([content]));
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
