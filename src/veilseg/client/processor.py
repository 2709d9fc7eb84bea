"""The seam between a pipeline and whatever computes answers."""

from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

from veilseg.payload import Float32Array


class TileProcessor(Protocol):
    """Turns one proxy tile into its answer, near or far."""

    def __call__(self, tile: Float32Array) -> Float32Array:
        """Process one tile.

        Parameters
        ----------
        tile : ndarray, shape (C, X, Y, Z) or (C, X, Y), float32

        Returns
        -------
        ndarray, shape (K, X, Y, Z) or (K, X, Y), float32
        """
        ...


@runtime_checkable
class ManyTiles(Protocol):
    """A processor that works on several tiles at a time."""

    def each(self, tiles: Iterable[Float32Array]) -> Iterator[Float32Array]:
        """Answers in the order of the tiles, of which only a few are taken ahead."""
        ...


def answers_of(processor: TileProcessor, tiles: Iterable[Float32Array]) -> Iterator[Float32Array]:
    """Answers in the order of the tiles, several at a time where the processor can."""
    return processor.each(tiles) if isinstance(processor, ManyTiles) else map(processor, tiles)


@runtime_checkable
class Counting(Protocol):
    """A processor that is far away and counts what passes."""

    @property
    def bytes_sent(self) -> int:
        """Bytes of all request bodies."""

    @property
    def bytes_received(self) -> int:
        """Bytes of all answer bodies."""


def traffic_of(processor: TileProcessor) -> tuple[int, int]:
    """Bytes that left and came so far; none of a processor at the site."""
    if isinstance(processor, Counting):
        return processor.bytes_sent, processor.bytes_received
    return 0, 0
