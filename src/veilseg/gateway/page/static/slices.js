/** Slices of four pictures through one place, at one scale. Needs nothing but a canvas. */

import { make } from "./dom.js";

const PLANES = {
  // Seen from the feet and from the patient's left, as radiologists do.
  axial: { name: "Axial", across: 2, flipped: [true, true], ends: ["R", "L", "A", "P"] },
  coronal: { name: "Coronal", across: 1, flipped: [true, true], ends: ["R", "L", "S", "I"] },
  sagittal: { name: "Sagittal", across: 0, flipped: [true, true], ends: ["A", "P", "S", "I"] },
  // A picture without a patient's axes: as one reads.
  page: { name: "Picture", across: 2, flipped: [false, false], ends: [] },
};
const HAIR = "rgb(115 217 224 / 65%)";
const GREY = Array.from({ length: 256 }, (_, level) => [level, level, level, 255]);

export class Slices {
  /** `places`: elements with data-view; `onMoved` is told when somebody points to a place. */
  constructor(places, onMoved) {
    this.overlay = 0.5;
    this.channel = 0;
    this.onMoved = onMoved;
    this.panes = places.map((place) => this.#pane(place));
    new ResizeObserver(() => this.draw()).observe(places[0]);
  }

  #pane(place) {
    const canvas = make("canvas");
    canvas.setAttribute("role", "img");
    place.prepend(canvas);
    const pane = { view: place.dataset.view, canvas, title: place.closest("figure").querySelector("h3") };
    const point = (event) => event.buttons === 1 && this.#point(pane, event.offsetX, event.offsetY);
    canvas.onpointerdown = canvas.onpointermove = point;
    return pane;
  }

  /** `volumes` by view; `linked`: whether what was sent lies over the image; `colours` by label. */
  show(volumes, { linked, pixels, colours }) {
    Object.assign(this, { volumes, linked, pixels });
    const image = volumes.image;
    this.place = [0, 1, 2].map((axis) => image.place(axis, Math.floor(image.shape[axis] / 2)));
    this.paints = {};
    const clear = [0, 0, 0, 0];
    const table = Array.from({ length: 256 }, (_, value) => (colours[value] ? [...colours[value], 255] : clear));
    this.paints = { labels: (value) => table[value], grey: (value) => GREY[value] };
    this.setPlane("axial");
  }

  clear() {
    this.volumes = null;
    for (const { canvas, title } of this.panes) {
      canvas.width = canvas.height = 0;
      canvas.setAttribute("aria-label", `${title.textContent}: nothing yet`);
    }
  }

  setPlane(plane) {
    this.plane = plane;
    this.draw();
  }

  get range() {
    const { across } = PLANES[this.plane];
    const { image } = this.volumes;
    return { count: image.shape[across], at: image.index(across, this.place[across]) };
  }

  moveTo(index) {
    const { across } = PLANES[this.plane];
    this.place[across] = this.volumes.image.place(across, index);
    this.draw();
  }

  get words() {
    const { count, at } = this.range;
    return count === 1 ? "one slice" : `${PLANES[this.plane].name} slice ${at + 1} of ${count}`;
  }

  draw() {
    if (!this.volumes) return;
    for (const pane of this.panes) this.#draw(pane);
  }

  #draw(pane) {
    const { canvas, view, title } = pane;
    const side = Math.round(canvas.clientWidth * devicePixelRatio);
    if (!side) return;
    if (canvas.width !== side) canvas.width = canvas.height = side;
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, side, side);
    const alone = this.#alone(view);
    const frame = this.#frame(view, side);
    pane.frame = frame;
    if (view === "labels") {
      this.#paint(context, this.volumes.image, frame, this.paints.grey, 1);
      this.#paint(context, this.volumes.labels, frame, this.paints.labels, this.overlay);
    } else this.#paint(context, this.volumes[view], frame, this.paints.grey, 1);
    if (!alone) this.#marks(context, frame, side);
    canvas.setAttribute("aria-label", `${title.textContent}: ${alone ? this.#tile(view) : this.words}`);
  }

  #alone(view) {
    return !this.linked && ["proxy", "answer"].includes(view);
  }

  #tile(view) {
    const { shape } = this.volumes[view];
    return `numbers of tile ${this.#index(view) + 1} of ${shape[2]}`;
  }

  /** Which slice of a picture that lies nowhere goes with the slider: in proportion. */
  #index(view) {
    const { count, at } = this.range;
    return Math.floor((at / count) * this.volumes[view].shape[2]);
  }

  /** How places become pixels: the image fills the pane, and everything else lies over it. */
  #frame(view, side) {
    const alone = this.#alone(view);
    const bounds = alone ? this.volumes[view] : this.volumes.image;
    const plane = PLANES[alone || this.pixels ? "page" : this.plane];
    const axes = [0, 1, 2].filter((axis) => axis !== plane.across);
    const extents = axes.map((axis) => bounds.extent(axis));
    const scale = side / Math.max(...extents.map(([low, high]) => high - low));
    const to = axes.map((_, part) => {
      const [low, high] = extents[part];
      const sign = plane.flipped[part] ? -1 : 1;
      return (place) => side / 2 + sign * scale * (place - (low + high) / 2);
    });
    const from = axes.map((_, part) => {
      const [low, high] = extents[part];
      const sign = plane.flipped[part] ? -1 : 1;
      return (pixel) => (sign * (pixel - side / 2)) / scale + (low + high) / 2;
    });
    const index = alone ? this.#index(view) : null;
    return { plane, axes, extents, to, from, index };
  }

  #paint(context, volume, { plane, axes, to, index }, paint, alpha) {
    const { across, flipped } = plane;
    const at = index ?? volume.index(across, this.place[across]);
    const pixels = volume.plane(across, at, Math.min(this.channel, volume.frames - 1), paint);
    const sheet = new OffscreenCanvas(pixels.width, pixels.height);
    sheet.getContext("2d").putImageData(pixels, 0, 0);
    const [[left, right], [top, bottom]] = axes.map((axis, part) => volume.extent(axis).map(to[part]));
    context.save();
    context.globalAlpha = alpha;
    // Labels are classes: between two of them there is nothing.
    context.imageSmoothingEnabled = paint === this.paints.grey;
    context.imageSmoothingQuality = "high";
    context.translate(left, top);
    context.scale(flipped[0] ? -1 : 1, flipped[1] ? -1 : 1);
    context.drawImage(sheet, 0, 0, Math.abs(right - left), Math.abs(bottom - top));
    context.restore();
  }

  #marks(context, { plane, axes, to }, side) {
    const [x, y] = axes.map((axis, part) => to[part](this.place[axis]));
    context.strokeStyle = HAIR;
    context.lineWidth = devicePixelRatio;
    context.beginPath();
    context.moveTo(x, 0);
    context.lineTo(x, side);
    context.moveTo(0, y);
    context.lineTo(side, y);
    context.stroke();
    const [left, right, top, bottom] = plane.ends;
    if (!left) return;
    const size = 13 * devicePixelRatio;
    context.font = `600 ${size}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineWidth = 3 * devicePixelRatio;
    context.strokeStyle = "rgb(0 0 0 / 70%)";
    context.fillStyle = "#dfe7ee";
    const ends = [[left, size, side / 2], [right, side - size, side / 2], [top, side / 2, size], [bottom, side / 2, side - size]];
    for (const [letter, ...where] of ends) {
      context.strokeText(letter, ...where);
      context.fillText(letter, ...where);
    }
  }

  #point({ view, frame }, x, y) {
    if (!this.volumes || this.#alone(view)) return;
    const { image } = this.volumes;
    [x, y].forEach((pixel, part) => {
      const axis = frame.axes[part];
      const index = image.index(axis, frame.from[part](pixel * devicePixelRatio));
      this.place[axis] = image.place(axis, Math.min(Math.max(index, 0), image.shape[axis] - 1));
    });
    this.draw();
    this.onMoved();
  }
}
