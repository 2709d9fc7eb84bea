"""Large tiles are trained on parts of them first: more steps in the same time.

A part has less context than the whole, and its instance norms see other statistics, so that the
last steps are for whole tiles (docs/experiments.md).
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from veilseg.networks.segmenter import DIVISOR, SMALLEST_SIDE

# Tiles of fewer voxels are cheap as a whole.
SMALLEST_CROPPED_VOXELS = 500_000
CROPS = 2


def crop_shape(tile_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Half of a large tile per axis, in multiples that the networks take; a small tile as it is."""
    if math.prod(tile_shape) < SMALLEST_CROPPED_VOXELS:
        return tile_shape
    halves = (size // 2 // DIVISOR * DIVISOR for size in tile_shape)
    return tuple(
        max(half, min(size, SMALLEST_SIDE)) for size, half in zip(tile_shape, halves, strict=True)
    )


def cropped(
    batch: dict[str, Tensor], tile_shape: tuple[int, ...], step: int, seed: int
) -> dict[str, Tensor]:
    """Random parts of a batch.

    Parameters
    ----------
    batch : dict of Tensor
        Maps (N, C, *tile), and what has no spatial axes (N,).
    tile_shape : tuple of int
    step, seed : int
        Of the run. The parts are a function of it and the step, so that a resumed run sees them
        again and all processes of one run cut alike.

    Returns
    -------
    dict of Tensor
        Two parts of each example, or the batch itself where tiles are small.
    """
    shape = crop_shape(tile_shape)
    if shape == tile_shape:
        return batch
    rng = np.random.default_rng([seed, 2, step])
    windows: list[tuple[Any, ...]] = []
    for _ in range(CROPS):
        corner = [
            int(rng.integers(tile - part + 1)) for tile, part in zip(tile_shape, shape, strict=True)
        ]
        inner = (slice(c, c + part) for c, part in zip(corner, shape, strict=True))
        windows.append((..., *inner))
    return {
        name: torch.cat([value[window] if value.ndim > 1 else value for window in windows])
        for name, value in batch.items()
    }
