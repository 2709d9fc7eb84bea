"""Noise on an image."""

import numpy as np
from numpy.random import Generator

from veilseg.payload import Float32Array


def with_noise(image: Float32Array, strength: float, rng: Generator) -> Float32Array:
    """Add Gaussian noise to every voxel, empty ones as well: support would show otherwise.

    Parameters
    ----------
    image : ndarray, shape (C, X, Y, Z) or (C, X, Y), float32
        In [0, 1].
    strength : float
        Standard deviation.
    rng : Generator
        Stays at the site: whoever has it has the image.

    Returns
    -------
    ndarray, float32
        Not clipped: a clipped voxel would tell that the image is near an end of its range.

    Leaks
    -----
    To the server: the image, under noise. See :func:`~veilseg.schemes.noise.leakage.hidden_share`.
    """
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    noise *= np.float32(strength)
    noise += image
    return noise


def price_of_averaging(proxies: int) -> str:
    """What several proxies of one image tell the server, in words."""
    return (
        f"{proxies} different proxies of this subject let the server average the noise away: "
        f"1/{proxies} of its variance stays"
    )
