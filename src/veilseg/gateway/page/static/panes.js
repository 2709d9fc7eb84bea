/** Four linked pictures, drawn by NiiVue: slices of one place, or solids turned alike. */

import { make } from "./dom.js";

const PLANES = { axial: 0, coronal: 1, sagittal: 2, solid: 4 };
// Which of right, anterior and superior a plane cuts across.
const ACROSS = { axial: 2, coronal: 1, sagittal: 0 };
const NAMES = { axial: "Axial", coronal: "Coronal", sagittal: "Sagittal", solid: "3D" };
const TURN = { azimuth: 110, elevation: 15 };
const LOOK = {
  dragAndDropEnabled: false,
  backColor: [0, 0, 0, 1],
  crosshairColor: [0.45, 0.85, 0.88, 0.6],
  crosshairWidth: 0.3,
  crosshairWidthUnit: "percent",
  fontColor: [0.75, 0.8, 0.85, 1],
  show3Dcrosshair: false,
  showLegend: false,
  loadingText: "",
  logLevel: "error",
  viewModeHotKey: "",
  clipPlaneHotKey: "",
  cycleClipPlaneHotKey: "",
};

/** Why nothing can be drawn in this browser; empty if it can. */
export function missing() {
  if (!globalThis.niivue)
    return "Pictures cannot be drawn: NiiVue is missing, which npm brings when Veilseg is installed. The sizes and downloads are there.";
  if (!document.createElement("canvas").getContext("webgl2"))
    return "Pictures cannot be drawn: this browser has no WebGL 2. The sizes and downloads are there.";
  return "";
}

export class Panes {
  /** `places`: elements with data-view; `onMoved` is told when somebody moved in a picture. */
  constructor(places, onMoved) {
    this.plane = "axial";
    this.linked = true;
    this.overlay = 0.5;
    this.onMoved = onMoved;
    this.panes = places.map((place) => this.#pane(place));
  }

  #pane(place) {
    const canvas = make("canvas");
    place.prepend(canvas);
    canvas.setAttribute("role", "img");
    const title = place.closest("figure").querySelector("h3");
    const drawn = new globalThis.niivue.Niivue(LOOK);
    const pane = { view: place.dataset.view, drawn, canvas, title };
    drawn.onLocationChange = () => {
      if (canvas.matches(":focus") && this.shown) this.onMoved();
    };
    return pane;
  }

  /** Contexts and shaders, which take a moment, before there is anything to show. */
  async ready() {
    for (const { drawn, canvas } of this.panes) await drawn.attachToCanvas(canvas);
    this.#link();
  }

  /**
   * Show the pictures of an image.
   *
   * `buffers` has one NIfTI for each view, `colours` one [r, g, b] for each label value.
   */
  async show(buffers, { linked, flat, pixels, colours }) {
    this.shown = false;
    this.linked = linked;
    this.flat = flat;
    for (const { view, drawn } of this.panes) {
      while (drawn.volumes.length) drawn.removeVolumeByIndex(0);
      drawn.opts.isRadiologicalConvention = !pixels;
      drawn.opts.isOrientationTextVisible = !pixels && (linked || ["image", "labels"].includes(view));
      const under = view === "labels" ? "image" : view;
      await drawn.loadFromArrayBuffer(buffers[under].slice(0), `${under}.nii`);
      if (view === "labels") {
        await drawn.loadFromArrayBuffer(buffers.labels, "labels.nii");
        drawn.volumes[1].setColormapLabel(table(colours));
      }
    }
    this.#link();
    this.shown = true;
    this.setPlane(flat ? "axial" : this.plane);
  }

  setPlane(plane) {
    this.plane = plane;
    for (const { drawn } of this.panes) {
      drawn.setSliceType(PLANES[plane]);
      if (plane === "solid") drawn.setRenderAzimuthElevation(TURN.azimuth, TURN.elevation);
    }
    this.#cover();
    this.#say();
  }

  /** How far the slider goes, and where it is: slices, or degrees of a turn. */
  get range() {
    if (this.plane === "solid") return { count: 360, at: Math.round(this.#first.scene.renderAzimuth) % 360 };
    const axis = ACROSS[this.plane];
    const count = this.#first.volumes[0].dimsRAS[axis + 1];
    const at = Math.floor(this.#first.scene.crosshairPos[axis] * count);
    return { count, at: Math.min(Math.max(at, 0), count - 1) };
  }

  moveTo(position) {
    if (this.plane === "solid") {
      for (const { drawn } of this.panes) drawn.setRenderAzimuthElevation(position, TURN.elevation);
      return;
    }
    const axis = ACROSS[this.plane];
    const place = [...this.#first.scene.crosshairPos];
    place[axis] = (position + 0.5) / this.range.count;
    const mm = this.#first.frac2mm(place);
    for (const pane of this.panes) {
      const { drawn } = pane;
      // What lies nowhere in the patient goes along in proportion.
      drawn.scene.crosshairPos = this.#placed(pane) ? drawn.mm2frac(mm) : place;
      drawn.drawScene();
    }
    this.#say();
  }

  setOverlay(share) {
    this.overlay = share;
    this.#cover();
  }

  /** Over a slice the segmentation is a veil; as a solid it stands alone, else it would be inside. */
  #cover() {
    const labels = this.panes.find(({ view }) => view === "labels").drawn;
    if (labels.volumes.length < 2) return;
    const solid = this.plane === "solid";
    labels.setOpacity(0, solid ? 0 : 1);
    labels.setOpacity(1, solid ? 1 : this.overlay);
  }

  setChannel(number) {
    for (const { view, drawn } of this.panes)
      if (view !== "answer" && drawn.volumes.length) drawn.setFrame4D(drawn.volumes[0].id, number);
  }

  /** In words, for the slider and for who does not see the pictures. */
  get words() {
    const { count, at } = this.range;
    if (this.plane === "solid") return `turned by ${at}°`;
    return this.flat ? "one slice" : `${NAMES[this.plane]} slice ${at + 1} of ${count}`;
  }

  get #first() {
    return this.panes[0].drawn;
  }

  #placed({ view }) {
    return this.linked || ["image", "labels"].includes(view);
  }

  #link() {
    const together = this.panes.filter((pane) => this.#placed(pane)).map(({ drawn }) => drawn);
    for (const { drawn } of this.panes)
      drawn.broadcastTo(together.includes(drawn) ? together.filter((one) => one !== drawn) : [], {
        "2d": true,
        "3d": true,
      });
  }

  #say() {
    for (const { canvas, title } of this.panes)
      canvas.setAttribute("aria-label", `${title.textContent}: ${this.words}`);
  }
}

/** NiiVue's table of label colours; the background is clear. */
function table(colours) {
  const values = [0, ...Object.keys(colours).map(Number)];
  const part = (index) => values.map((value) => (value ? colours[value][index] : 0));
  return {
    R: part(0),
    G: part(1),
    B: part(2),
    A: values.map((value) => (value ? 255 : 0)),
    I: values,
    labels: values.map(() => ""),
  };
}
