"""Linear interpolation, one axis after the other, of only the part that is asked for."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from veilseg.payload import Float32Array

# Where scipy cuts its Gaussian.
GAUSSIAN_TRUNCATED_AT = 4.0


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
    result: Float32Array = np.asarray(array, dtype=np.float32)
    # What gets smaller first, so that the rest has less to do.
    for axis in sorted(range(result.ndim), key=lambda axis: zoom[axis]):
        if zoom[axis] == 1.0:
            result = result[(slice(None),) * axis + (region[axis],)]
        else:
            result = _along(result, axis, region[axis], zoom[axis])
    return result


def reach(part: slice, zoom: float, size: int) -> slice:
    """Samples of the zoomed axis, of ``size`` in all, that depend on a part of the axis."""
    if zoom == 1.0:
        return part
    margin = 1 + _radius(zoom)
    first = math.floor((part.start - margin + 0.5) * zoom - 0.5)
    last = math.ceil((part.stop - 1 + margin + 0.5) * zoom - 0.5)
    return slice(max(0, first), min(size, last + 1))


def _along(array: Float32Array, axis: int, region: slice, zoom: float) -> Float32Array:
    places = (np.arange(region.start, region.stop) + 0.5) / zoom - 0.5
    places = np.clip(places, 0, array.shape[axis] - 1)
    # Only what these places see.
    margin = _radius(zoom)
    start = max(0, math.floor(places[0]) - margin)
    stop = min(array.shape[axis], math.floor(places[-1]) + 2 + margin)
    part = array[(slice(None),) * axis + (slice(start, stop),)]
    if zoom < 1:
        part = ndimage.gaussian_filter1d(part, _sigma(zoom), axis, truncate=GAUSSIAN_TRUNCATED_AT)
    below = np.floor(places).astype(np.intp) - start
    above = np.minimum(below + 1, part.shape[axis] - 1)
    shape = [1] * array.ndim
    shape[axis] = -1
    weight = (places - start - below).astype(np.float32).reshape(shape)
    result: Float32Array = part.take(above, axis)
    lower = part.take(below, axis)
    result -= lower
    result *= weight
    result += lower
    return result


def _sigma(zoom: float) -> float:
    return (1 / zoom - 1) / 2


def _radius(zoom: float) -> int:
    """How far the averaging before a reduction looks, in samples."""
    return int(GAUSSIAN_TRUNCATED_AT * _sigma(zoom) + 0.5) if zoom < 1 else 0
