"""How encodings travel: tokens of all resolutions in one sequence.

At each resolution an encoding is a grid of tokens, each of some channels. On the wire are the
tokens of the finest grid in raster order, the last axis fastest, the channels of a token together;
then those of the next grid.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from veilseg.payload import Float32Array

# By how much each grid is coarser than the tile.
STRIDES = (4, 8)


@dataclass(frozen=True)
class Level:
    """The tokens of one resolution."""

    grid: tuple[int, ...]
    channels: int

    @property
    def tokens(self) -> int:
        return math.prod(self.grid)

    @property
    def values(self) -> int:
        return self.tokens * self.channels


@dataclass(frozen=True)
class Layout:
    """Which values of a sequence are whose, from the finest grid on."""

    levels: tuple[Level, ...]

    @classmethod
    def of(cls, tile_shape: Sequence[int], channels: Sequence[int]) -> Self:
        """Of a tile's encoding with so many channels at each of :data:`STRIDES`."""
        return cls(
            tuple(
                Level(tuple(size // stride for size in tile_shape), count)
                for stride, count in zip(STRIDES, channels, strict=True)
            )
        )

    @classmethod
    def from_json(cls, fields: Sequence[dict[str, Any]]) -> Self:
        """From a manifest's settings; KeyError or TypeError if it is something else."""
        return cls(tuple(Level(tuple(one["grid"]), int(one["channels"])) for one in fields))

    def to_json(self) -> list[dict[str, Any]]:
        """As :meth:`from_json` takes it."""
        return [{"grid": list(level.grid), "channels": level.channels} for level in self.levels]

    @property
    def values(self) -> int:
        """Length of the sequence."""
        return sum(level.values for level in self.levels)

    def split(self, sequence: Float32Array) -> Iterator[Float32Array]:
        """Tokens of each level, (…, tokens, channels), as views of a sequence (…, values)."""
        start = 0
        for level in self.levels:
            part = sequence[..., start : start + level.values]
            yield part.reshape(*sequence.shape[:-1], level.tokens, level.channels)
            start += level.values

    def joined(self, tokens: Sequence[NDArray[np.floating[Any]]]) -> Float32Array:
        """A sequence (…, values) of tokens of each level, (…, tokens, channels)."""
        parts = [part.reshape(*part.shape[:-2], -1) for part in tokens]
        return np.concatenate(parts, axis=-1, dtype=np.float32)

    def grids(self, sequence: Float32Array) -> list[Float32Array]:
        """Maps of each level, (channels, *grid), of one sequence (values,)."""
        return [
            np.moveaxis(tokens.reshape(*level.grid, level.channels), -1, 0)
            for level, tokens in zip(self.levels, self.split(sequence), strict=True)
        ]

    def sequence(self, grids: Sequence[Float32Array]) -> Float32Array:
        """One sequence (values,) of maps of each level, (channels, *grid)."""
        return self.joined([np.moveaxis(maps, 0, -1).reshape(-1, len(maps)) for maps in grids])
