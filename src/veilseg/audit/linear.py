"""The best linear attacker, frequency by frequency: what the closed forms are about."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from veilseg.audit.laws import Law
from veilseg.audit.scene import Scene, evenly
from veilseg.payload import Float32Array

# Fresh proxies of the attacker's own images that moments are estimated from.
SAMPLES = 60
TINY = 1e-12


@dataclass(frozen=True)
class LinearAttacker:
    """``x̂ = μx + h * (z − μz)``: mean maps of image and proxy, and the Wiener filter h.

    For centred, uncorrelated x and r of equal spectrum the filter is the number
    ``a / (a² + (1 − a)²)``, and what stays hidden is ``(1 − a)² / (a² + (1 − a)²)`` of the variance
    (method.md §5). Where spectra differ, the filter takes what is more of the patient.

    Attributes
    ----------
    mean_image, mean_proxy : ndarray, shape (C, *tile), float32
    gain : ndarray, shape (C, *tile), float32
        Of each frequency; alike in all directions, for there are few samples.
    """

    mean_image: Float32Array
    mean_proxy: Float32Array
    gain: Float32Array

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
        shape = images.shape[2:]
        cross, power = np.zeros((2, *images.shape[1:]))
        for image, proxy in zip(images - mean_image, proxies - mean_proxy, strict=True):
            x, z = (fft.fftn(one, axes=range(1, one.ndim)) for one in (image, proxy))
            cross += (x * z.conj()).real
            power += np.abs(z) ** 2
        rings = _rings(shape)
        gain = [
            (np.bincount(rings.ravel(), c.ravel()) / (np.bincount(rings.ravel(), p.ravel()) + TINY))
            for c, p in zip(cross, power, strict=True)
        ]
        return cls(mean_image, mean_proxy, np.stack([g[rings] for g in gain]).astype(np.float32))

    def guess(self, proxies: Float32Array) -> Float32Array:
        """The best linear guess of each image, (…, C, *tile); it may lie outside [0, 1]."""
        axes = range(-self.gain.ndim + 1, 0)
        spectrum = fft.fftn(proxies - self.mean_proxy, axes=axes) * self.gain
        return np.asarray(self.mean_image + fft.ifftn(spectrum, axes=axes).real, dtype=np.float32)

    def __call__(self, proxy: Float32Array) -> Float32Array:
        """The best linear guess of one image, in [0, 1]."""
        return np.clip(self.guess(proxy), 0, 1)


def _rings(shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Which frequencies are equally high, by number, in steps of the longest axis' lowest one."""
    axes = [np.fft.fftfreq(size) for size in shape]
    squares = [axis**2 for axis in np.meshgrid(*axes, indexing="ij")]
    return np.asarray(np.rint(np.sqrt(np.sum(squares, axis=0)) * max(shape)), dtype=np.intp)
