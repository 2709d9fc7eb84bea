"""From grid to grid: cases on a tile's, and tiles on the coarser ones of tokens."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import block_reduce

from veilseg.datasets.cases import PreparedCase


def central(shape: tuple[int, ...], tile: tuple[int, ...]) -> tuple[slice, ...]:
    """The tile in the middle of a grid that is at least as large."""
    corners = [(size - part) // 2 for size, part in zip(shape, tile, strict=True)]
    return tuple(slice(c, c + part) for c, part in zip(corners, tile, strict=True))


def fitted(case: PreparedCase, shape: tuple[int, ...]) -> PreparedCase:
    """A case on another grid: cut or padded evenly, nothing scaled."""
    wider = [max(0, want - has) for want, has in zip(shape, case.labels.shape, strict=True)]
    padding = [(more // 2, more - more // 2) for more in wider]
    image = np.pad(case.image, ((0, 0), *padding))
    labels = np.pad(case.labels, padding)
    window = central(labels.shape, shape)
    return replace(case, image=image[(slice(None), *window)], labels=labels[window])


def means_of_blocks(maps: NDArray[Any], grid: Sequence[int]) -> NDArray[np.float64]:
    """Maps (C, *tile) on the grid of tokens, each of which stands for a block of voxels."""
    blocks = [full // part for full, part in zip(maps.shape[1:], grid, strict=True)]
    found = block_reduce(maps.astype(np.float64), (1, *blocks), np.mean)  # type: ignore[no-untyped-call]  # scikit-image declares no types
    return np.asarray(found)


def on_blocks(tokens: NDArray[Any], tile: Sequence[int]) -> NDArray[Any]:
    """Values on the grid of tokens, each on all voxels of its block."""
    for axis, (full, part) in enumerate(zip(tile, tokens.shape, strict=True)):
        tokens = tokens.repeat(full // part, axis)
    return tokens
