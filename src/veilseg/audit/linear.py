"""The best linear attacker, voxel by voxel: what the closed forms are about."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from veilseg.audit.laws import Law
from veilseg.audit.scene import Scene, evenly
from veilseg.payload import Float32Array

# Fresh proxies of the attacker's own images that moments are estimated from.
SAMPLES = 60


@dataclass(frozen=True)
class LinearAttacker:
    """``x̂ = μx + β·(z − μz)``: mean maps of image and proxy, and one slope per channel.

    For centred, uncorrelated x and r of equal variance ``β = a / (a² + (1 − a)²)`` and what stays
    hidden is ``(1 − a)² / (a² + (1 − a)²)`` of the variance (method.md §5).

    Attributes
    ----------
    mean_image, mean_proxy : ndarray, shape (C, *tile), float32
    slope : ndarray, shape (C, 1, …), float32
    """

    mean_image: Float32Array
    mean_proxy: Float32Array
    slope: Float32Array

    @classmethod
    def fitted(cls, scene: Scene, law: Law, samples: int = SAMPLES) -> Self:
        """Estimate the moments from fresh proxies of auxiliary images."""
        some = evenly(scene.auxiliary, samples)
        cases = [some[i % len(some)] for i in range(samples)]
        seen = scene.simulate(law, cases, answered=False)
        images = np.stack([one.image for one in seen])
        proxies = np.stack([one.proxy for one in seen])
        return cls.of(images, proxies)

    @classmethod
    def of(cls, images: Float32Array, proxies: Float32Array) -> Self:
        """From pairs, shape (N, C, *tile)."""
        mean_image, mean_proxy = images.mean(axis=0), proxies.mean(axis=0)
        x, z = images - mean_image, proxies - mean_proxy
        axes = (0, *range(2, images.ndim))
        slope = (x * z).mean(axis=axes) / np.maximum((z * z).mean(axis=axes), 1e-12)
        return cls(mean_image, mean_proxy, slope.reshape(-1, *[1] * (images.ndim - 2)))

    def __call__(self, proxy: Float32Array) -> Float32Array:
        """The best linear guess of the image, in [0, 1]."""
        return np.clip(self.mean_image + self.slope * (proxy - self.mean_proxy), 0, 1)
