"""Augmentation of encoded pairs, which nobody has to decode for it (method.md §2).

What moves tokens moves those of image and mask alike, at every resolution by as much of the tile.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from veilseg.payload import Float32Array

Grids = list[Float32Array]


@dataclass(frozen=True)
class SequenceAugmentation:
    """How far encoded pairs are changed; 0 leaves a change out.

    Attributes
    ----------
    shift : int
        The most tokens of the coarsest grid by which a block is rolled along each axis.
    mixed : float
        Share of pairs that are mixed with a second one, both sequences by the same weight.
    cut : float
        Share of pairs of which a block of tokens is kept and the rest is a second one's.
    masked : float
        Share of the image's tokens that are emptied.
    dropped : float
        Share of the image's channels that are emptied.
    jitter : float
        Standard deviation of the noise on the image's values, which have unit variance.
    """

    shift: int = 1
    mixed: float = 0.0
    cut: float = 0.0
    masked: float = 0.0
    dropped: float = 0.0
    jitter: float = 0.05

    @property
    def mixes(self) -> bool:
        """Whether a second pair is ever put in."""
        return self.mixed > 0 or self.cut > 0

    def __call__(
        self, images: Sequence[Grids], masks: Sequence[Grids], rng: Generator
    ) -> tuple[Grids, Grids]:
        """Of a pair and a second one to put in, each as maps (channels, *grid) per level."""
        image, mask = images[0], masks[0]
        if rng.random() < self.mixed:
            weight = np.float32(rng.uniform(0.5, 1.0))
            image, mask = (
                [weight * one + (1 - weight) * other for one, other in zip(*both, strict=True)]
                for both in (images, masks)
            )
        if rng.random() < self.cut:
            kept = _block(image[-1].shape[1:], rng)
            image, mask = (
                [_filled(one, other, kept) for one, other in zip(*both, strict=True)]
                for both in ((image, images[1]), (mask, masks[1]))
            )
        if self.shift:
            axes = range(1, image[0].ndim)
            by = [int(rng.integers(-self.shift, self.shift + 1)) for _ in axes]
            image, mask = (_rolled(grids, by) for grids in (image, mask))
        return [self._disturbed(grid, rng) for grid in image], mask

    def _disturbed(self, grid: Float32Array, rng: Generator) -> Float32Array:
        changed = grid
        if self.masked:
            changed = changed * (rng.random(grid.shape[1:]) >= self.masked)
        if self.dropped:
            kept = rng.random(len(grid)) >= self.dropped
            changed = changed * kept.reshape(-1, *[1] * (grid.ndim - 1))
        if self.jitter:
            noise = rng.standard_normal(grid.shape, dtype=np.float32)
            changed = changed + np.float32(self.jitter) * noise
        return np.asarray(changed, dtype=np.float32)


def _block(coarsest: Sequence[int], rng: Generator) -> NDArray[np.bool_]:
    """A random block of at least half of the coarsest grid along each axis."""
    kept = np.ones(coarsest, dtype=bool)
    for axis, size in enumerate(coarsest):
        length = int(rng.integers(-(-size // 2), size + 1))
        start = int(rng.integers(size - length + 1))
        inside = np.zeros(size, dtype=bool)
        inside[start : start + length] = True
        kept &= inside.reshape([-1 if other == axis else 1 for other in range(len(coarsest))])
    return kept


def _filled(grid: Float32Array, other: Float32Array, kept: NDArray[np.bool_]) -> Float32Array:
    """Outside of a block of the coarsest grid, another's tokens."""
    for axis, (size, coarse) in enumerate(zip(grid.shape[1:], kept.shape, strict=True)):
        kept = kept.repeat(size // coarse, axis=axis)
    return np.where(kept, grid, other)


def _rolled(grids: Grids, by: Sequence[int]) -> Grids:
    """Each grid by as much of the tile: finer ones by more tokens."""
    coarsest = grids[-1].shape[1:]
    return [
        np.roll(
            grid,
            [s * (size // c) for s, size, c in zip(by, grid.shape[1:], coarsest, strict=True)],
            axis=range(1, grid.ndim),
        )
        for grid in grids
    ]
