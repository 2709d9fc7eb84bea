"""What every file format has to hold to: usable values on one grid that fits into memory."""

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veilseg.errors import GeometryMismatch, InvalidImage
from veilseg.imaging.volume import Geometry, LabelMap, Volume
from veilseg.payload import Float32Array

# Two channels or an image and its labels may differ by rounding of their headers, no more.
SAME_GRID_TOLERANCE_MM = 1e-2
# Whatever the memory: beyond this, indices no longer fit into 32 bits.
MOST_VOXELS = 2**31
# Reading an image and bringing it to a bundle's grid holds up to this much per voxel and channel.
BYTES_PER_VOXEL = 40
# Files held as they are, beside what is made of them, take no more of the memory than this.
SHARE_OF_FILES = 0.25

Reader = Callable[[Path], tuple[NDArray[Any], Geometry]]


def stacked(files: Sequence[Path], read: Reader) -> Volume:
    """Read the files of one image and join their channels.

    Parameters
    ----------
    files : sequence of Path
        In the order of the channels; a file may hold several.
    read : callable
        Gives an array of shape (C, X, Y, Z) or (C, X, Y) and its grid.

    Raises
    ------
    InvalidImage
        If a file holds NaN or infinity or is constant, or no file is given.
    GeometryMismatch
        If the files lie on different grids.
    """
    arrays: list[Float32Array] = []
    geometry: Geometry | None = None
    for path in files:
        raw, found = read(path)
        with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused
            array = raw.astype(np.float32)
        if not np.isfinite(array).all():
            raise InvalidImage(f"{path}: holds NaN or infinite intensities")
        if array.min() == array.max():
            raise InvalidImage(f"{path}: is constant: every voxel is {array.flat[0]:g}")
        if geometry is None:
            geometry = found
        require_same_grid(geometry, found, str(files[0]), str(path))
        arrays.append(array)
    if geometry is None:
        raise InvalidImage("no image file given")
    return Volume(np.concatenate(arrays) if len(arrays) > 1 else arrays[0], geometry)


def as_label_map(path: Path, values: NDArray[Any], geometry: Geometry) -> LabelMap:
    """Labels of what a file holds, shape (1, X, Y, Z) or (1, X, Y).

    Raises
    ------
    InvalidImage
        If there are several channels, or values are not integers in 0…255.
    """
    if len(values) != 1:
        raise InvalidImage(f"{path}: labels must have one channel, not {len(values)}")
    rounded = None
    if np.isfinite(values).all() and values.min() >= 0 and values.max() <= 255:
        rounded = values.astype(np.uint8)
    if rounded is None or not np.array_equal(rounded, values):
        raise InvalidImage(f"{path}: labels must be integers in 0…255")
    return LabelMap(rounded[0], geometry)


def require_file(path: Path) -> None:
    """Raise InvalidImage unless there is a file."""
    if not path.is_file():
        raise InvalidImage(f"{path}: {'not a file' if path.exists() else 'no such file'}")


def require_same_grid(first: Geometry, second: Geometry, name: str, other: str) -> None:
    """Raise GeometryMismatch unless both grids place their voxels alike."""
    if first.shape != second.shape:
        raise GeometryMismatch(
            f"{other}: shape {second.shape} differs from {first.shape} of {name}"
        )
    # In 2D the third column is the thickness of a slice and places nothing.
    columns = [*range(first.ndim), 3]
    difference = (first.affine - second.affine)[:, columns]
    corner = np.array([*first.shape, 1.0])
    apart = max(float(np.abs(difference @ corner).max()), float(np.abs(difference).max()))
    if apart > SAME_GRID_TOLERANCE_MM:
        raise GeometryMismatch(f"{other}: lies {apart:.2g} mm off the grid of {name}")


def require_fitting(shape: tuple[int, ...], name: str, verb: str = "announces") -> None:
    """Refuse an image by its size, before anything is allocated.

    The limit is the number of voxels, channels included, at ``BYTES_PER_VOXEL`` each in this
    computer's memory, and ``MOST_VOXELS`` at the most.

    Raises
    ------
    InvalidImage
        If there are more voxels than that, or none.
    """
    if min(shape) <= 0:
        raise InvalidImage(f"{name}: has no voxels")
    voxels, limit = math.prod(shape), min(MOST_VOXELS, _memory_bytes() // BYTES_PER_VOXEL)
    if voxels > limit:
        raise InvalidImage(
            f"{name}: {verb} {voxels:,} voxels, more than the {limit:,} that fit into memory"
        )


def require_bytes_fitting(count: int, name: str) -> None:
    """Refuse files by their size, unpacked, before one of them is read.

    Raises
    ------
    InvalidImage
        If they take more than ``SHARE_OF_FILES`` of this computer's memory.
    """
    limit = int(_memory_bytes() * SHARE_OF_FILES)
    if count > limit:
        raise InvalidImage(
            f"{name}: holds {count:,} bytes, unpacked, more than the {limit:,} that fit into memory"
        )


def one_line(error: Exception) -> str:
    """What a library says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return MOST_VOXELS * BYTES_PER_VOXEL
