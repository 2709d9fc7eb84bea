"""From whole image to tiles of the server's fixed shape, and back without seams.

The law is MONAI's ``sliding_window_inference`` with ``mode="gaussian"``, so a network gives a
site what its trainer measured; here it needs no torch, and tiles are cut when they are asked for.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from veilseg.errors import GeometryMismatch, InvalidInput
from veilseg.payload import Float32Array

# Width of the Gaussian that weighs a tile's voxels, as a share of the tile: MONAI's default.
SIGMA_SHARE = 0.125
# Corners of a large tile would weigh nothing and divide badly: MONAI's floor.
LEAST_WEIGHT = 1e-3

Window = tuple[slice, ...]


def sliding_window(
    array: Float32Array,
    tile_shape: tuple[int, ...],
    overlap: float,
    process: Callable[[Iterator[Float32Array]], Iterable[Float32Array]],
    progress: Callable[[int, int], None] | None = None,
) -> Float32Array:
    """Process an image tile by tile and blend the answers.

    Axes shorter than the tile are padded with zeros, half before and half after, and cut again.
    Where tiles overlap, each counts by a Gaussian around its middle. An image that fits one tile
    costs nothing beyond ``process``.

    Parameters
    ----------
    array : ndarray, shape (C, X, Y, Z) or (C, X, Y), float32
    tile_shape : (X, Y, Z) or (X, Y)
    overlap : float in [0, 1)
        Share of a tile that neighbours have in common at least.
    process : callable
        Maps tiles (C, *tile), read-only, to answers (K, *tile) in their order.
    progress : callable, optional
        Called with (done, total) after each tile.

    Returns
    -------
    ndarray, shape (K, X, Y, Z) or (K, X, Y), float32

    Raises
    ------
    GeometryMismatch
        If tile and image differ in their number of axes, or ``process`` does not keep the grid.
    InvalidInput
        If the overlap is outside [0, 1).
    """
    answers = process(tiles(array, tile_shape, overlap))
    return blended(answers, array.shape[1:], tile_shape, overlap, progress)


def tiles(
    array: Float32Array, tile_shape: tuple[int, ...], overlap: float
) -> Iterator[Float32Array]:
    """The tiles of an image, one at a time, in order, read-only; raises as :func:`sliding_window`.

    Axes shorter than the tile are padded with zeros, half before and half after.
    """
    windows = _windows(array.shape[1:], tile_shape, overlap)
    padding = _padding(array.shape[1:], tile_shape)
    padded = np.pad(array, ((0, 0), *padding)) if any(map(sum, padding)) else array
    for window in windows:
        # Where the image is one tile, this is no copy; whatever processing does, the image stays.
        tile = np.ascontiguousarray(padded[(slice(None), *window)], dtype=np.float32).view()
        tile.flags.writeable = False
        yield tile


def blended(
    answers: Iterable[Float32Array],
    shape: tuple[int, ...],
    tile_shape: tuple[int, ...],
    overlap: float,
    progress: Callable[[int, int], None] | None = None,
) -> Float32Array:
    """One answer of the answers (K, *tile) to all :func:`tiles` of an image, in their order.

    Parameters
    ----------
    answers : iterable of ndarray
        Taken one at a time.
    shape : (X, Y, Z) or (X, Y)
        Of the image.
    tile_shape, overlap, progress
        As of :func:`sliding_window`, whose errors are raised.
    """
    windows = _windows(shape, tile_shape, overlap)
    padding = _padding(shape, tile_shape)
    padded = [size + sum(more) for size, more in zip(shape, padding, strict=True)]
    inner = tuple(
        slice(before, before + size) for (before, _), size in zip(padding, shape, strict=True)
    )
    weight = _importance(tile_shape) if len(windows) > 1 else np.zeros(0, dtype=np.float32)
    total = weights = np.zeros(0, dtype=np.float32)
    for number, (window, answer) in enumerate(zip(windows, answers, strict=True)):
        found = np.asarray(answer, dtype=np.float32)
        place = f"tile {number + 1} of {len(windows)}: processing gave"
        if found.shape[1:] != tile_shape:
            raise GeometryMismatch(f"{place} shape {found.shape[1:]} for a tile of {tile_shape}")
        if progress is not None:
            progress(number + 1, len(windows))
        if len(windows) == 1:
            return found[(slice(None), *inner)]
        if number == 0:
            total = np.zeros((len(found), *padded), dtype=np.float32)
            weights = np.zeros(padded, dtype=np.float32)
        if len(found) != len(total):
            raise GeometryMismatch(f"{place} {len(found)} classes, {len(total)} for the first tile")
        total[(slice(None), *window)] += found * weight
        weights[window] += weight
    total /= weights
    return total[(slice(None), *inner)]


def tile_count(shape: tuple[int, ...], tile_shape: tuple[int, ...], overlap: float) -> int:
    """How many tiles :func:`sliding_window` makes of an image of ``shape`` (spatial axes only)."""
    return len(_windows(shape, tile_shape, overlap))


def _padding(shape: tuple[int, ...], tile_shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Zeros before and after each axis that is shorter than the tile."""
    missing = [max(0, tile - size) for size, tile in zip(shape, tile_shape, strict=True)]
    return [(less // 2, less - less // 2) for less in missing]


def _windows(shape: tuple[int, ...], tile_shape: tuple[int, ...], overlap: float) -> list[Window]:
    """Where the tiles lie in the padded image; the last of an axis ends with the image."""
    if len(shape) != len(tile_shape):
        raise GeometryMismatch(f"image of shape {shape} for tiles of shape {tile_shape}")
    if not 0 <= overlap < 1:
        raise InvalidInput(f"overlap: {overlap:g} is not in [0, 1)")
    axes = []
    for size, tile in zip(shape, tile_shape, strict=True):
        last = max(0, size - tile)
        interval = max(1, int(tile * (1 - overlap)))
        starts = [*range(0, last, interval), last]
        axes.append([slice(start, start + tile) for start in starts])
    return list(itertools.product(*axes))


def _importance(tile_shape: tuple[int, ...]) -> Float32Array:
    """Weight of each voxel of a tile: a product of one Gaussian per axis, with a floor."""
    weight = np.ones((), dtype=np.float32)
    for size in tile_shape:
        distance = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
        profile = np.exp(-(distance**2) / np.float32(2 * (SIGMA_SHARE * size) ** 2))
        weight = weight[..., None] * profile
    # MONAI's floor is the larger of this and the map's own minimum, which changes nothing.
    return np.maximum(weight, np.float32(LEAST_WEIGHT))
