/** A picture as the gateway sends it: NIfTI of bytes or of colours, axes right, anterior, superior. */

const COLOURS = 128;

export class Volume {
  constructor(buffer) {
    const header = new DataView(buffer);
    const size = (axis) => Math.max(1, header.getInt16(40 + 2 * axis, true));
    const entry = (row, column) => header.getFloat32(280 + 16 * row + 4 * column, true);
    this.shape = [1, 2, 3].map(size);
    this.frames = size(4);
    this.coloured = header.getInt16(70, true) === COLOURS;
    this.first = [0, 1, 2].map((axis) => entry(axis, 3));
    this.step = [0, 1, 2].map((axis) => entry(axis, axis));
    this.voxels = new Uint8Array(buffer, header.getFloat32(108, true));
  }

  /** Which voxel of an axis is at a place; it may be none. */
  index(axis, place) {
    return Math.round((place - this.first[axis]) / this.step[axis]);
  }

  place(axis, index) {
    return this.first[axis] + index * this.step[axis];
  }

  /** From edge to edge. */
  extent(axis) {
    return [this.place(axis, -0.5), this.place(axis, this.shape[axis] - 0.5)];
  }

  /**
   * A plane of voxels as an image, rows in the order of the second axis left.
   *
   * `paint` gives [red, green, blue, alpha] for a value.
   */
  plane(across, index, frame, paint) {
    const [u, v] = [0, 1, 2].filter((axis) => axis !== across);
    const [columns, rows] = [this.shape[u], this.shape[v]];
    const pixels = new ImageData(columns, rows);
    if (index < 0 || index >= this.shape[across]) return pixels;
    const [x, y, z] = this.shape;
    const strides = [1, x, x * y];
    const begin = index * strides[across] + (this.coloured ? 0 : frame * x * y * z);
    let at = 0;
    for (let row = 0; row < rows; row++)
      for (let column = 0; column < columns; column++, at += 4) {
        const voxel = begin + column * strides[u] + row * strides[v];
        if (this.coloured) {
          pixels.data.set(this.voxels.subarray(3 * voxel, 3 * voxel + 3), at);
          pixels.data[at + 3] = 255;
        } else pixels.data.set(paint(this.voxels[voxel]), at);
      }
    return pixels;
  }

  /**
   * The same as NIfTI on the grid of another picture, of which no axis becomes longer than
   * `longest`: enough for a small picture of a solid, and all of them have one size.
   */
  onGridOf(other, longest) {
    const every = other.shape.map((size) => Math.ceil(size / longest));
    const shape = other.shape.map((size, axis) => Math.ceil(size / every[axis]));
    // Of each axis which voxels are taken; none lie outside.
    const taken = shape.map((size, axis) =>
      Array.from({ length: size }, (_, index) => this.index(axis, other.place(axis, index * every[axis]))).map(
        (index) => (index >= 0 && index < this.shape[axis] ? index : -1),
      ),
    );
    const bytes = this.coloured ? 3 : 1;
    const start = this.voxels.byteOffset;
    const thin = new Uint8Array(start + bytes * shape[0] * shape[1] * shape[2]);
    thin.set(new Uint8Array(this.voxels.buffer, 0, start));
    const header = new DataView(thin.buffer);
    [3, ...shape, 1].forEach((value, at) => header.setInt16(40 + 2 * at, value, true));
    for (const axis of [0, 1, 2]) {
      header.setFloat32(80 + 4 * axis, other.step[axis] * every[axis], true);
      header.setFloat32(280 + 20 * axis, other.step[axis] * every[axis], true);
      header.setFloat32(292 + 16 * axis, other.first[axis], true);
    }
    let at = start;
    for (const k of taken[2])
      for (const j of taken[1])
        for (const i of taken[0]) {
          if (i >= 0 && j >= 0 && k >= 0) {
            const voxel = bytes * (i + this.shape[0] * (j + this.shape[1] * k));
            for (let part = 0; part < bytes; part++) thin[at + part] = this.voxels[voxel + part];
          }
          at += bytes;
        }
    return thin.buffer;
  }
}
