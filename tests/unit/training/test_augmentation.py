"""Image, labels and emptiness move together, as MONAI would move them."""

import numpy as np
import pytest
import torch
from monai.transforms import Affine

from veilseg.training.augmentation import Augmentation, placed

SHAPES = [(20, 24, 16), (40, 28)]


def matrix_of(dims, seed):
    """A turn, a stretch and a shift, in voxels."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.eye(dims + 1)
    matrix[:dims] += 0.15 * (torch.rand((dims, dims + 1), generator=generator) - 0.5)
    matrix[:dims, dims] = 6 * torch.rand(dims, generator=generator) - 3
    return matrix


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_placement_is_that_of_monai(shape, seed):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand((2, *shape), generator=generator)
    maps = torch.randint(3, (2, *shape), generator=generator).float()
    matrix = matrix_of(len(shape), seed)
    moved, moved_maps = placed(image, maps, matrix)
    expected = {
        mode: Affine(affine=matrix, mode=mode, padding_mode="zeros", image_only=True)
        for mode in ("bilinear", "nearest")
    }
    # Coordinates are float32: near 20 voxels they are 2e-6 off, and so is an intensity.
    found = expected["bilinear"](image).as_tensor()
    torch.testing.assert_close(moved, found, atol=1e-4, rtol=0)
    # A voxel half-way between two may go to either.
    same = moved_maps == expected["nearest"](maps).as_tensor()
    assert same.float().mean() > 0.999
    assert (moved - image).abs().mean() > 0.05


@pytest.mark.parametrize("shape", SHAPES)
def test_labels_and_emptiness_stay_with_the_image(shape):
    middle = (np.array(shape).reshape(-1, *[1] * len(shape)) - 1) / 2
    distance = np.sqrt((((np.indices(shape) - middle) / middle) ** 2).sum(axis=0))
    labels = np.select([distance < 0.4, distance < 0.7], [2, 1], 0).astype(np.uint8)
    image = np.where(distance < 0.7, 0.2 + 0.3 * labels, 0)[None].astype(np.float32)
    augmentation = Augmentation(len(shape))
    moved = 0
    for seed in range(20):
        found, found_labels = augmentation(image, labels, np.random.default_rng(seed))
        assert (found.dtype, found_labels.dtype) == (np.float32, np.uint8)
        np.testing.assert_array_equal(found[0] > 0, found_labels > 0)
        # Contrast rises with the label, whatever the intensities became.
        assert found[0][found_labels == 2].mean() > found[0][found_labels == 1].mean()
        moved += not np.array_equal(found_labels, labels)
    assert 10 <= moved < 20  # four fifths are; 2.4 standard deviations below


def test_same_generator_gives_the_same():
    image = np.random.default_rng(0).random((1, *SHAPES[1]), dtype=np.float32)
    labels = (image[0] > 0.5).astype(np.uint8)
    augmentation = Augmentation(2)
    first, again, other = (augmentation(image, labels, np.random.default_rng(s)) for s in (1, 1, 2))
    assert all(map(np.array_equal, first, again))
    assert not np.array_equal(first[0], other[0])


def test_thick_slices_are_turned_and_not_sheared(monkeypatch):
    spacing = np.array([1.0, 1.0, 6.0])
    matrices = []

    def kept(image, maps, matrix):
        matrices.append(matrix[:3, :3].numpy())
        return placed(image, maps, matrix)

    monkeypatch.setattr("veilseg.training.augmentation.placed", kept)
    stretch = {}
    for name, given in (("as told", spacing), ("untold", None)):
        matrices.clear()
        augmentation = Augmentation(3, given)
        for seed in range(30):
            image, labels = np.ones((1, 8, 8, 8), np.float32), np.ones((8, 8, 8), np.uint8)
            augmentation(image, labels, np.random.default_rng(seed))
        # What happens to lengths in the patient, not to voxels.
        in_mm = [matrix * spacing[:, None] / spacing for matrix in matrices]
        stretch[name] = np.abs(np.linalg.svd(in_mm, compute_uv=False) - 1).max()
    assert stretch["as told"] <= 0.15 + 1e-3  # the range of the scale
    assert stretch["untold"] > 0.5


def test_equal_spacing_changes_nothing():
    image = np.random.default_rng(0).random((1, 12, 16)).astype(np.float32)
    labels = (image[0] > 0.5).astype(np.uint8)
    found = [
        Augmentation(2, spacing)(image, labels, np.random.default_rng(3))
        for spacing in (None, (1.5, 1.5), (1, 1))
    ]
    for other, other_labels in found[1:]:
        np.testing.assert_array_equal(other, found[0][0])
        np.testing.assert_array_equal(other_labels, found[0][1])
