"""The seam between a pipeline and whatever computes answers."""

from typing import Protocol

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
