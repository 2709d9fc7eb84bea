"""Augmentation of patient images before anything else happens to them: MONAI transforms."""

import numpy as np
import torch
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandAffined,
    RandBiasFieldd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
)
from numpy.typing import NDArray

from veilseg.imaging.preprocessing import SMALLEST_PRESENT
from veilseg.payload import Float32Array


def augmentation(spatial_dims: int) -> Compose:
    """Random placement and contrast. No mirroring: left and right may be classes."""
    rotate = [0.26] * 3 if spatial_dims == 3 else 0.26
    return Compose(
        [
            RandAffined(
                keys=["image", "label", "present"],
                prob=0.8,
                rotate_range=rotate,
                scale_range=[0.15] * spatial_dims,
                translate_range=[4] * spatial_dims,
                mode=["bilinear", "nearest", "nearest"],
                padding_mode="zeros",
            ),
            RandBiasFieldd(keys=["image"], prob=0.3, degree=2, coeff_range=(0.0, 0.15)),
            RandAdjustContrastd(keys=["image"], prob=0.5, gamma=(0.7, 1.5)),
            RandScaleIntensityd(keys=["image"], prob=0.5, factors=0.15),
            RandGaussianSmoothd(
                keys=["image"],
                prob=0.15,
                sigma_x=(0.3, 0.8),
                sigma_y=(0.3, 0.8),
                sigma_z=(0.3, 0.8),
            ),
            RandGaussianNoised(keys=["image"], prob=0.3, std=0.05),
        ]
    )


def augmented(
    transform: Compose, image: Float32Array, labels: NDArray[np.uint8], seed: int
) -> tuple[Float32Array, NDArray[np.uint8]]:
    """Apply the transform with its own seed; what was empty stays exactly empty."""
    transform.set_random_state(seed=seed % 2**32)
    data = transform(
        {
            "image": torch.from_numpy(image),
            "label": torch.from_numpy(labels[None].astype(np.float32)),
            "present": torch.from_numpy((image > 0).any(axis=0, keepdims=True).astype(np.float32)),
        }
    )
    present = np.asarray(data["present"]) > 0.5
    moved = np.clip(np.asarray(data["image"], dtype=np.float32), SMALLEST_PRESENT, 1)
    return np.where(present, moved, np.float32(0)), np.asarray(data["label"])[0].astype(np.uint8)
