"""Linear interpolation, one axis after the other, of only the part that is asked for."""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from veilseg.payload import Float32Array

# Where scipy cuts its Gaussian.
GAUSSIAN_TRUNCATED_AT = 4.0
# Interpolated at once: what a core's cache holds, and little beside a large volume.
BLOCK_VOXELS = 2**20


def linear(
    array: NDArray[np.generic], region: tuple[slice, ...], zoom: tuple[float, ...]
) -> Float32Array:
    """Interpolate a region of the grid that is ``zoom`` times finer and has the same outer corner.

    Where an axis becomes coarser, samples are averaged first, else thin structures alias. Beyond
    the outermost samples, these are repeated.

    Parameters
    ----------
    array : ndarray
    region : tuple of slice
        Of the finer or coarser grid, start and stop per axis.
    zoom : tuple of float
        Per axis; 1 leaves an axis as it is.

    Returns
    -------
    ndarray, float32
        Of the region's shape.
    """
    places = [
        np.clip((np.arange(part.start, part.stop) + 0.5) / factor - 0.5, 0, size - 1)
        for part, factor, size in zip(region, zoom, array.shape, strict=True)
    ]
    seen = tuple(
        part if factor == 1.0 else _seen(at, factor, size)
        for part, at, factor, size in zip(region, places, zoom, array.shape, strict=True)
    )
    result = array[seen]
    # What gets smaller first, so that the rest has less to do.
    for axis in sorted(range(array.ndim), key=lambda axis: zoom[axis]):
        if zoom[axis] != 1.0:
            result = _along(result, axis, places[axis] - seen[axis].start, zoom[axis])
    return np.asarray(result, dtype=np.float32)


def reach(part: slice, zoom: float, size: int) -> slice:
    """Samples of the zoomed axis, of ``size`` in all, that depend on a part of the axis."""
    if zoom == 1.0:
        return part
    margin = 1 + _radius(zoom)
    first = math.floor((part.start - margin + 0.5) * zoom - 0.5)
    last = math.ceil((part.stop - 1 + margin + 0.5) * zoom - 0.5)
    return slice(max(0, first), min(size, last + 1))


def _seen(places: NDArray[np.float64], zoom: float, size: int) -> slice:
    """The samples of an axis that these places look at."""
    margin = _radius(zoom)
    start = max(0, math.floor(places[0]) - margin)
    return slice(start, min(size, math.floor(places[-1]) + 2 + margin))


def _along(
    array: NDArray[np.generic], axis: int, places: NDArray[np.float64], zoom: float
) -> Float32Array:
    """One axis, at these places; block by block, for a large volume fits into memory but once."""
    below = np.floor(places).astype(np.intp)
    above = np.minimum(below + 1, array.shape[axis] - 1)
    along = [1] * array.ndim
    along[axis] = -1
    weight = (places - below).astype(np.float32).reshape(along)
    shape = list(array.shape)
    shape[axis] = len(places)
    result = np.empty(shape, dtype=np.float32)
    for block in _blocks(array, axis):
        part = np.asarray(array[block], dtype=np.float32)
        if zoom < 1:
            part = ndimage.gaussian_filter1d(
                part, _sigma(zoom), axis, truncate=GAUSSIAN_TRUNCATED_AT
            )
        lower = part.take(below, axis)
        found = part.take(above, axis)
        found -= lower
        found *= weight
        np.add(found, lower, out=result[block])
    return result


def _blocks(array: NDArray[np.generic], axis: int) -> Iterator[tuple[slice, ...]]:
    """Parts that are whole along an axis, cut where memory is not jumped through."""
    others = [other for other in range(array.ndim) if other != axis]
    if not others:
        yield (slice(None),)
        return
    cut = max(others, key=lambda other: abs(array.strides[other]))
    thickness = max(1, BLOCK_VOXELS * array.shape[cut] // max(1, array.size))
    for start in range(0, array.shape[cut], thickness):
        yield (*[slice(None)] * cut, slice(start, start + thickness))


def _sigma(zoom: float) -> float:
    return (1 / zoom - 1) / 2


def _radius(zoom: float) -> int:
    """How far the averaging before a reduction looks, in samples."""
    return int(GAUSSIAN_TRUNCATED_AT * _sigma(zoom) + 0.5) if zoom < 1 else 0
