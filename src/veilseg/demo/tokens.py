"""What the tokens of encodings show to whoever has neither a network nor a known pair."""

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from veilseg.bundle import ClientManifest
from veilseg.imaging.tiling import blended
from veilseg.payload import Float32Array
from veilseg.schemes.encoding.sequence import Layout

GROUPS = 8
SEED = 0
# Of a component's values, what is black and what is white.
PERCENTILES = (2, 98)


def components(
    sequences: Float32Array, what: str, manifest: ClientManifest, shape: tuple[int, ...], count: int
) -> Float32Array:
    """The first principal components of tokens, drawn where they lie.

    Parameters
    ----------
    sequences : ndarray, shape (T, values)
        Of all tiles of an image.
    what : {"image", "mask"}
        What was encoded.
    manifest : ClientManifest
    shape : (X, Y, Z)
        Of the image.
    count : int

    Returns
    -------
    ndarray, shape (count, X, Y, Z), in [0, 1]
        Their signs mean nothing.
    """
    layout = Layout.from_json(manifest.settings[f"{what}_levels"])
    tokens = next(layout.split(sequences)).astype(np.float64)
    centred = tokens - tokens.mean(axis=(0, 1))
    flat = centred.reshape(-1, centred.shape[-1])
    _, vectors = np.linalg.eigh(flat.T @ flat)
    found = centred @ vectors[:, : -count - 1 : -1]
    low, high = np.percentile(found, PERCENTILES, axis=(0, 1))
    return _drawn(np.clip((found - low) / (high - low), 0, 1), layout, manifest, shape)


def groups(
    sequences: Float32Array, manifest: ClientManifest, shape: tuple[int, ...]
) -> NDArray[np.intp]:
    """Which tokens of an encoded mask are alike: a group's number at each voxel.

    Parameters
    ----------
    sequences : ndarray, shape (T, values)
        Encoded masks of all tiles of an image.
    manifest : ClientManifest
    shape : (X, Y, Z)
        Of the image.
    """
    layout = Layout.from_json(manifest.settings["mask_levels"])
    tokens = next(layout.split(sequences)).astype(np.float64)
    _, numbers = kmeans2(tokens.reshape(-1, tokens.shape[-1]), GROUPS, minit="++", seed=SEED)
    alike = np.eye(GROUPS)[numbers].reshape(*tokens.shape[:2], GROUPS)
    found: NDArray[np.intp] = _drawn(alike, layout, manifest, shape).argmax(axis=0)
    return found


def _drawn(
    values: NDArray[np.float64], layout: Layout, manifest: ClientManifest, shape: tuple[int, ...]
) -> Float32Array:
    """Values of tokens (T, tokens, C) on the image's grid: each on all voxels of its block."""
    grid, tile = layout.levels[0].grid, manifest.tile_shape
    block = np.ones([full // part for full, part in zip(tile, grid, strict=True)])
    found = (
        np.stack([np.kron(channel.reshape(grid), block) for channel in one.T]) for one in values
    )
    return blended(found, shape, tile, manifest.tile_overlap)
