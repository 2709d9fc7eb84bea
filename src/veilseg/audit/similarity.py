"""How alike two images are: SSIM (scikit-image), multi-scale SSIM (MONAI) and PSNR."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from monai.metrics.regression import MultiScaleSSIMMetric
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from veilseg.payload import Float32Array

# Intensities are in [0, 1] everywhere.
DATA_RANGE = 1.0
SIGMA = 1.5
LARGEST_WINDOW = 11
# Wang et al. 2003. Small images take the first few, scaled to sum to one.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
SMALLEST_WINDOW = 3


def ssim(first: Float32Array, second: Float32Array) -> float:
    """Structural similarity of two images (C, X, Y[, Z]) in [0, 1], mean over channels.

    With the Gaussian window of Wang et al. 2004: 11 voxels of sigma 1.5. MONAI's gives the same and
    takes ten times as long in 3D.
    """
    found = structural_similarity(
        *(np.clip(image, 0, 1).astype(np.float64) for image in (first, second)),
        data_range=DATA_RANGE,
        channel_axis=0,
        gaussian_weights=True,
        sigma=SIGMA,
        use_sample_covariance=False,
    )
    return float(found)


def ms_ssim(first: Float32Array, second: Float32Array) -> float:
    """Multi-scale structural similarity, with as many scales as the image has room for."""
    least = min(first.shape[1:])
    scales = next(
        count
        for count in range(len(SCALE_WEIGHTS), 0, -1)
        if count == 1 or _window(least, count) >= SMALLEST_WINDOW
    )
    weights = np.asarray(SCALE_WEIGHTS[:scales])
    metric = MultiScaleSSIMMetric(
        first.ndim - 1,
        DATA_RANGE,
        kernel_size=_window(least, scales),
        weights=(weights / weights.sum()).tolist(),
    )
    pair = [torch.from_numpy(np.clip(one, 0, 1)[None]) for one in (first, second)]
    return float(metric(*pair))


def psnr_db(first: Float32Array, second: Float32Array) -> float:
    """Peak signal-to-noise ratio in decibel; infinite for equal images."""
    error = float(np.mean((first.astype(np.float64) - second) ** 2))
    return math.inf if error == 0 else 10 * math.log10(DATA_RANGE**2 / error)


def similarities(
    found: Sequence[Float32Array], truths: Sequence[Float32Array]
) -> NDArray[np.float64]:
    """SSIM of every image to every truth: (n found, n truths)."""
    return np.array([[ssim(one, truth) for truth in truths] for one in found])


def _window(least: int, scales: int) -> int:
    """The largest odd window that MONAI takes: ``(scales − 1)²`` of them fit into each side."""
    room = least // max(1, (scales - 1) ** 2)
    return min(LARGEST_WINDOW, room - (room + 1) % 2)
