"""Pictures of what the main path holds, for a browser: eight bits, NIfTI, placed in one space.

Everything of one image lies over everything else of it: the file's own grid and the prepared one
are both placed in the file's RAS+ millimetres. A 2D image, wherever it was taken, is laid flat.
"""

import math
from collections.abc import Sequence

import nibabel as nib
import numpy as np
from nibabel.orientations import inv_ornt_aff
from numpy.typing import NDArray

from veilseg.imaging.preprocessing import Restoration
from veilseg.imaging.volume import Geometry
from veilseg.payload import Float32Array

Affine = NDArray[np.float64]
Colour = tuple[int, int, int]

# Share of the voxels that may be brighter than white: a few of them would leave the rest dark.
BRIGHTER = 0.2 / 100
# As many tell where white lies.
SAMPLES = 200_000
RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


def placed(geometry: Geometry) -> Affine:
    """Affine by which the voxels of a file are shown.

    Rows of a picture in pixels run downwards. Any other slice is turned to show its first two
    axes in the order of RAS: right before anterior before superior.
    """
    if geometry.ndim == 3:
        return geometry.affine
    flat = np.eye(4)
    if geometry.unit == "pixel":
        flat[1, 1] = -1
        return flat
    axes = geometry.affine[:3, :2]
    # Of two axes the one that runs most to the right is across.
    strongest = np.abs(axes / np.linalg.norm(axes, axis=0)).argmax(axis=0)
    across = int(strongest[1] < strongest[0])
    for row, column in enumerate((across, 1 - across)):
        flat[row, :2] = 0
        size = np.linalg.norm(axes[:, column])
        flat[row, column] = size * np.sign(axes[strongest[column], column])
    return flat


def placed_prepared(restoration: Restoration) -> Affine:
    """The same of the grid on which an image is protected."""
    original = restoration.original
    count = original.ndim
    steps = np.eye(4)
    for axis in range(count):
        zoom = restoration.zoom[axis]
        first = restoration.crop[axis].start - restoration.padding[axis][0]
        steps[axis, axis] = 1 / zoom
        # Both grids share their outer corner, and not the middle of their first voxel.
        steps[axis, 3] = (first + 0.5) / zoom - 0.5
    to_file = np.eye(4)
    kept = [*range(count), 3]
    to_file[np.ix_(kept, kept)] = inv_ornt_aff(restoration.orientation, original.shape)
    affine: Affine = placed(original) @ to_file @ steps
    return affine


def grey(array: Float32Array, affine: Affine) -> bytes:
    """An image with its channels, from its darkest to almost its brightest.

    Parameters
    ----------
    array : ndarray, shape (C, X, Y, Z) or (C, X, Y)
        Three channels in 2D are red, green and blue.
    affine : ndarray, shape (4, 4)

    Returns
    -------
    bytes
        NIfTI, channels as frames.
    """
    sample = array.ravel()[:: max(1, array.size // SAMPLES)]
    low, high = float(array.min()), float(np.quantile(sample, 1 - BRIGHTER))
    if high <= low:
        high = float(array.max())
    scale = 255 / (high - low) if high > low else 0.0
    shown = np.clip((array - np.float32(low)) * np.float32(scale), 0, 255).astype(np.uint8)
    if shown.ndim == 3:
        coloured = len(shown) == 3
        return _nifti(_rgb(shown) if coloured else shown.transpose(1, 2, 0)[:, :, None], affine)
    return _nifti(np.moveaxis(shown, 0, -1), affine)


def mixed(maps: Float32Array, colours: Sequence[Colour], affine: Affine) -> bytes:
    """Maps of classes, mixed as colours: the first is background, and black.

    Parameters
    ----------
    maps : ndarray, shape (K, X, Y, Z) or (K, X, Y)
    colours : sequence of (R, G, B)
        One for each map but the first.
    """
    shown = np.zeros((3, *maps.shape[1:]), np.float32)
    for map_, colour in zip(maps[1:], colours, strict=True):
        for part, share in zip(shown, colour, strict=True):
            part += np.clip(map_, 0, 1) * np.float32(share)
    return _nifti(_rgb(np.clip(shown, 0, 255).astype(np.uint8)), affine)


def classes(labels: NDArray[np.uint8], affine: Affine) -> bytes:
    """A label map as it is."""
    return _nifti(labels, affine)


def sequences(array: Float32Array) -> bytes:
    """Numbers that are no image, as a square of grey levels for each tile, in their order.

    Parameters
    ----------
    array : ndarray, shape (T, N)
    """
    tiles = array.reshape(len(array), -1)
    side = math.ceil(math.sqrt(tiles.shape[1]))
    padded = np.zeros((len(tiles), side * side), np.float32)
    padded[:, : tiles.shape[1]] = tiles
    # Read as text is: along a row, then down.
    squares = padded.reshape(len(tiles), side, side).transpose(2, 1, 0)
    return grey(squares[None], np.diag([1.0, -1.0, 1.0, 1.0]))


def _rgb(parts: NDArray[np.uint8]) -> NDArray[np.void]:
    colours = np.empty(parts.shape[1:], RGB)
    for name, part in zip("RGB", parts, strict=True):
        colours[name] = part
    return colours


def _nifti(array: NDArray[np.uint8] | NDArray[np.void], affine: Affine) -> bytes:
    """Three axes at least: what shows it knows no fewer."""
    image = nib.Nifti1Image(array[..., None] if array.ndim == 2 else array, affine)
    image.header.set_xyzt_units("mm")
    return image.to_bytes()
