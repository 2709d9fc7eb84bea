"""Pictures of what the main path holds, for a browser: eight bits, NIfTI, axes in the order of RAS.

Everything of one image has its place on one ruler per axis, in millimetres (or pixels) from the
middle of the image's first voxel in RAS+ order: the file's own grid and the prepared one, whose
axes run alike, lie over each other wherever in the scanner the patient was.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from veilseg.imaging.orientation import orientation_of, ras_spacing_mm, to_ras
from veilseg.imaging.preprocessing import Restoration
from veilseg.imaging.volume import Geometry, LabelMap, Volume
from veilseg.payload import Float32Array

Colour = tuple[int, int, int]

# Share of the voxels that may be brighter than white: a few of them would leave the rest dark.
BRIGHTER = 0.2 / 100
# As many tell where white lies.
SAMPLES = 200_000
RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


@dataclass(frozen=True)
class Ruler:
    """Where the voxels of a picture lie: of each axis the middle of the first, and the distance."""

    first: tuple[float, ...]
    step: tuple[float, ...]

    @classmethod
    def of(cls, geometry: Geometry) -> "Ruler":
        """Of an image's own grid."""
        return cls((0.0,) * geometry.ndim, ras_spacing_mm(geometry))

    @classmethod
    def of_prepared(cls, restoration: Restoration) -> "Ruler":
        """Of the grid on which an image is protected."""
        first, step = [], []
        parts = (restoration.zoom, restoration.crop, restoration.padding)
        spacings = ras_spacing_mm(restoration.original)
        for spacing, zoom, crop, (before, _) in zip(spacings, *parts, strict=True):
            # Both grids share their outer corner, and not the middle of their first voxel.
            first.append(((crop.start - before + 0.5) / zoom - 0.5) * spacing)
            step.append(spacing / zoom)
        return cls(tuple(first), tuple(step))


def image(volume: Volume) -> bytes:
    """An image, from its darkest to almost its brightest; channels are frames or colours."""
    orientation = orientation_of(volume.geometry)
    array = np.stack([to_ras(channel, orientation) for channel in volume.array])
    return grey(array, Ruler.of(volume.geometry))


def labels(found: LabelMap) -> bytes:
    """A label map as it is."""
    return _nifti(to_ras(found.array, orientation_of(found.geometry)), Ruler.of(found.geometry))


def grey(array: Float32Array, ruler: Ruler) -> bytes:
    """An image in RAS order, as :func:`image`.

    Parameters
    ----------
    array : ndarray, shape (C, X, Y, Z) or (C, X, Y)
        Three channels in 2D are red, green and blue.
    ruler : Ruler

    Returns
    -------
    bytes
        NIfTI.
    """
    sample = array.ravel()[:: max(1, array.size // SAMPLES)]
    low, high = float(array.min()), float(np.quantile(sample, 1 - BRIGHTER))
    if high <= low:
        high = float(array.max())
    scale = 255 / (high - low) if high > low else 0.0
    shown = np.clip((array - np.float32(low)) * np.float32(scale), 0, 255).astype(np.uint8)
    if shown.ndim == 3:
        pixels = np.ascontiguousarray(np.moveaxis(shown, 0, -1))
        return _nifti(pixels.view(RGB) if len(shown) == 3 else pixels[:, :, None], ruler)
    return _nifti(np.moveaxis(shown, 0, -1), ruler)


def mixed(maps: Float32Array, colours: Sequence[Colour], ruler: Ruler) -> bytes:
    """Maps of classes, mixed as colours: the first is background, and black.

    Parameters
    ----------
    maps : ndarray, shape (K, X, Y, Z) or (K, X, Y)
    colours : sequence of (R, G, B)
        One for each map but the first.
    ruler : Ruler
    """
    shares = np.array(colours, np.float32)
    present = np.clip(maps[1:], 0, 1).reshape(len(shares), -1)
    shown = np.clip(shares.T @ present, 0, 255).astype(np.uint8)
    pixels = np.ascontiguousarray(shown.T).view(RGB)
    return _nifti(pixels.reshape(maps.shape[1:]), ruler)


def sequences(array: Float32Array) -> bytes:
    """Numbers that are no image, as a square of grey levels for each tile, in their order.

    Parameters
    ----------
    array : ndarray, shape (T, N)
    """
    tiles = array.reshape(len(array), -1)
    side = math.ceil(math.sqrt(tiles.shape[1]))
    padded = np.full((len(tiles), side * side), tiles.min(), np.float32)
    padded[:, : tiles.shape[1]] = tiles
    # Read as text is: along a row, then down.
    squares = padded.reshape(len(tiles), side, side).transpose(2, 1, 0)
    return grey(squares[None], Ruler((0.0,) * 3, (1.0,) * 3))


def _nifti(array: NDArray[np.uint8] | NDArray[np.void], ruler: Ruler) -> bytes:
    """Three axes at least: what shows it knows no fewer."""
    affine = np.eye(4)
    for axis, (first, step) in enumerate(zip(ruler.first, ruler.step, strict=True)):
        affine[axis, axis], affine[axis, 3] = step, first
    shown = nib.Nifti1Image(array[..., None] if array.ndim == 2 else array, affine)
    shown.header.set_xyzt_units("mm")
    return shown.to_bytes()
