/** The same pictures as solids, drawn by NiiVue and turned alike. */

import { make } from "./dom.js";

const RENDER = 4;
const START = { azimuth: 110, elevation: 15 };
// Voxels of the longest axis: a pane is small, and not every machine has a graphics card.
const LONGEST = 128;
const LOOK = {
  dragAndDropEnabled: false,
  backColor: [0, 0, 0, 1],
  show3Dcrosshair: false,
  showLegend: false,
  isOrientationTextVisible: false,
  loadingText: "",
  logLevel: "error",
  sliceType: RENDER,
  viewModeHotKey: "",
  clipPlaneHotKey: "",
  cycleClipPlaneHotKey: "",
};

/** Why there are no solids in this browser; empty if there are. */
export function missing() {
  if (!globalThis.niivue)
    return "There is no 3D view: NiiVue is missing, which npm brings when Veilseg is installed. Everything else is there.";
  if (!document.createElement("canvas").getContext("webgl2"))
    return "There is no 3D view: this browser has no WebGL 2. Everything else is there.";
  return "";
}

export class Solids {
  constructor(places, onTurned) {
    this.azimuth = START.azimuth;
    this.onTurned = onTurned;
    this.places = places;
    this.drawn = new Map();
  }

  /** Make or remake them. A context and its shaders take a moment: they are kept. */
  async show({ volumes, linked, colours }) {
    for (const place of this.places) {
      const { view } = place.dataset;
      if (!linked && ["proxy", "answer"].includes(view)) continue;
      const drawn = this.drawn.get(view) ?? (await this.#made(place));
      while (drawn.volumes.length) drawn.removeVolumeByIndex(0);
      drawn.canvas.hidden = false;
      await drawn.loadFromArrayBuffer(volumes[view].onGridOf(volumes.image, LONGEST), `${view}.nii`);
      if (view === "labels") {
        drawn.volumes[0].setColormapLabel(table(colours));
        drawn.updateGLVolume();
      }
    }
    const all = [...this.drawn.values()];
    for (const drawn of all) drawn.broadcastTo(all.filter((one) => one !== drawn), { "3d": true });
    this.turn(this.azimuth);
  }

  hide() {
    for (const { canvas } of this.drawn.values()) canvas.hidden = true;
  }

  turn(azimuth) {
    this.azimuth = azimuth;
    for (const drawn of this.drawn.values())
      drawn.setRenderAzimuthElevation(azimuth, drawn.scene.renderElevation);
  }

  async #made(place) {
    const { view } = place.dataset;
    const canvas = make("canvas", { className: "solid" });
    place.append(canvas);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${place.closest("figure").querySelector("h3").textContent}: 3D`);
    const drawn = new globalThis.niivue.Niivue(LOOK);
    await drawn.attachToCanvas(canvas);
    drawn.setRenderAzimuthElevation(START.azimuth, START.elevation);
    // Turned by hand in one pane, which turns the others.
    drawn.onAzimuthElevationChange = (azimuth) => {
      if (!canvas.matches(":focus")) return;
      this.azimuth = ((azimuth % 360) + 360) % 360;
      this.onTurned();
    };
    this.drawn.set(view, drawn);
    return drawn;
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
