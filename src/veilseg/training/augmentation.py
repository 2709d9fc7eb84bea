"""Augmentation of patient images before anything else happens to them: MONAI transforms."""

from collections.abc import Sequence

import numpy as np
import torch
from monai.transforms import (
    Compose,
    RandAdjustContrast,
    RandAffineGrid,
    RandBiasField,
    RandGaussianNoise,
    RandGaussianSmooth,
    RandScaleIntensity,
)
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from veilseg.imaging.intensity import SMALLEST_PRESENT
from veilseg.payload import Float32Array

MOVED_SHARE = 0.8
SAME_SPACING = 1e-3


class Augmentation:
    """Random placement and contrast. No mirroring: left and right may be classes.

    Parameters
    ----------
    spatial_dims : int
    spacing : sequence of float or None
        Of the voxels, in any unit: a rotation is one of the patient, not of the array. None: as
        wide along every axis.
    strength : float
        How far all of it goes. 1 as for training; a small part of it as a second scan would differ.
    """

    def __init__(
        self, spatial_dims: int, spacing: Sequence[float] | None = None, strength: float = 1.0
    ) -> None:
        lengths = torch.tensor([1.0] * spatial_dims if spacing is None else spacing)
        # Relative, so that shifts stay some voxels whatever the unit.
        relative = torch.cat([lengths / lengths.log().mean().exp(), torch.ones(1)])
        self.spacing = torch.where((relative - 1).abs() < SAME_SPACING, 1.0, relative)
        self.placement = RandAffineGrid(
            rotate_range=[0.26 * strength] * (3 if spatial_dims == 3 else 1),
            scale_range=[0.15 * strength] * spatial_dims,
            translate_range=[4 * strength] * spatial_dims,
        )
        sigma = (0.3, 0.3 + 0.5 * strength)
        self.contrast = Compose(
            [
                RandBiasField(prob=0.3, degree=2, coeff_range=(0.0, 0.15 * strength)),
                RandAdjustContrast(prob=0.5, gamma=(0.7**strength, 1.5**strength)),
                RandScaleIntensity(prob=0.5, factors=0.15 * strength),
                RandGaussianSmooth(prob=0.15, sigma_x=sigma, sigma_y=sigma, sigma_z=sigma),
                RandGaussianNoise(prob=0.3, std=0.02 * strength),
            ]
        )

    def __call__(
        self, image: Float32Array, labels: NDArray[np.uint8], rng: Generator
    ) -> tuple[Float32Array, NDArray[np.uint8]]:
        """Augment an image (C, X, Y[, Z]) and its labels alike; what was empty stays so exactly."""
        for transform in (self.placement, self.contrast):
            transform.set_random_state(seed=int(rng.integers(2**32)))
        moved = torch.from_numpy(image)
        maps = torch.from_numpy(np.stack([labels, (image > 0).any(axis=0)]).astype(np.float32))
        if rng.random() < MOVED_SHARE:
            self.placement(labels.shape, lazy=True)  # draws a matrix and makes no grid
            matrix = torch.as_tensor(self.placement.get_transformation_matrix())
            # From voxels to lengths, where the matrix is meant, and back.
            matrix = matrix * self.spacing / self.spacing[:, None]
            moved, maps = placed(moved, maps, matrix)
        coloured = np.asarray(self.contrast(moved), dtype=np.float32)
        placed_labels, present = maps.numpy()
        coloured = np.clip(coloured, SMALLEST_PRESENT, 1)
        return np.where(present > 0.5, coloured, np.float32(0)), placed_labels.astype(np.uint8)


def placed(image: Tensor, maps: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Look an image up linearly, and maps at the nearest voxel, where an affine matrix says.

    As MONAI's ``RandAffined``, which takes more than twice the time: it samples each map alone and
    builds its grid in steps.

    Parameters
    ----------
    image, maps : Tensor, shape (C, X, Y[, Z])
    matrix : Tensor, shape (D + 1, D + 1)
        In voxels, from the middle of the grid. Outside of it all is 0.
    """
    size = torch.tensor(image.shape[1:], dtype=matrix.dtype)
    # torch counts from -1 to 1 along each axis, the last axis first.
    linear = matrix[:-1, :-1] * size / size[:, None]
    shift = 2 * matrix[:-1, -1] / size
    theta = torch.cat([linear.flip(0, 1), shift.flip(0)[:, None]], dim=1)
    grid = affine_grid(theta[None].float(), [1, 1, *image.shape[1:]], align_corners=False)
    sampled = [
        grid_sample(values[None], grid, mode=mode, align_corners=False)[0]
        for values, mode in ((image, "bilinear"), (maps, "nearest"))
    ]
    return sampled[0], sampled[1]
