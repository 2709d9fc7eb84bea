"""Deformations that can be undone: the inverse, the box, and torch doing what NumPy does."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from veilseg.schemes.deformation.field import code_shape, deformed, flow, inverse_flow
from veilseg.schemes.deformation.generator import (
    STEEPEST,
    VelocityGenerator,
    displacement,
    warped,
)

SHAPES = [(48, 40), (32, 40, 24)]
SPACING_MM = 1.5
STRENGTH = 0.04


def velocity_of(dims, seed=0):
    torch.manual_seed(seed)
    with torch.no_grad():
        return VelocityGenerator(dims, STRENGTH)(torch.randn(1, *code_shape(dims)))[0].numpy()


@pytest.fixture(params=SHAPES, ids=["2D", "3D"])
def shape(request):
    return request.param


@pytest.fixture
def fields(shape):
    velocity = velocity_of(len(shape))
    coordinates = flow(velocity, shape)
    return velocity, coordinates, inverse_flow(velocity, coordinates)


def off_by(first, second):
    return np.sqrt(((first - second) ** 2).sum(axis=0))


def test_places_come_back_to_a_hundredth_of_a_voxel(shape, fields):
    _, coordinates, inverse = fields
    voxels = np.indices(shape)
    moved = off_by(coordinates, voxels)
    assert moved.mean() > 0.5, "nothing is deformed"
    left = off_by(deformed(coordinates, inverse), voxels)
    assert left.mean() < 0.001
    assert left.max() < 0.02
    assert SPACING_MM * left.max() < 0.03  # in millimetres


def test_velocity_is_as_strong_as_told_and_not_too_steep(shape):
    velocity = velocity_of(len(shape))
    assert 0.5 * STRENGTH < np.sqrt(np.mean(velocity**2)) <= 1.001 * STRENGTH
    slopes = [np.abs(np.diff(velocity, axis=axis)).max() for axis in range(1, velocity.ndim)]
    assert max(slopes) * (velocity.shape[1] - 1) <= 1.001 * STEEPEST


def test_fields_of_people_have_nothing_in_common_whatever_is_learned(shape):
    """The velocity is odd in the secret numbers, which are symmetric about 0: so its mean is 0."""
    torch.manual_seed(2)
    generator = VelocityGenerator(len(shape), STRENGTH)
    with torch.no_grad():
        for weight in generator.parameters():
            weight.add_(1)  # as if one field for all had been learned
        code = torch.randn(1, *code_shape(len(shape)))
        torch.testing.assert_close(generator(-code), -generator(code))


def test_box_is_mapped_onto_itself(shape, fields):
    _, coordinates, _ = fields
    for axis, size in enumerate(shape):
        for end in (0, size - 1):
            face = coordinates[axis].take(end, axis=axis)
            np.testing.assert_allclose(face, end, atol=1e-3)


def test_no_place_is_folded(shape, fields):
    _, coordinates, _ = fields
    dims = len(shape)
    slopes = np.stack([np.gradient(coordinates, axis=axis) for axis in range(1, dims + 1)])
    assert np.linalg.det(np.moveaxis(slopes, (0, 1), (-2, -1))).min() > 0.05


def test_image_comes_back_but_for_interpolation(shape, fields):
    _, coordinates, inverse = fields
    rng = np.random.default_rng(3)
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape), 3)
    image = (smooth / np.abs(smooth).max())[None].astype(np.float32)
    there = deformed(image, coordinates)
    back = deformed(there, inverse)
    changed, left = (np.sqrt(np.mean((one - image) ** 2)) for one in (there, back))
    assert left < 0.1 * changed


def test_probabilities_come_back_and_still_sum_to_one(shape, fields):
    _, coordinates, inverse = fields
    middle = (np.array(shape).reshape(-1, *[1] * len(shape)) - 1) / 2
    inside = (np.linalg.norm((np.indices(shape) - middle) / middle, axis=0) < 0.6).astype(float)
    maps = np.stack([1 - inside, inside]).astype(np.float32)
    # What a right server answers to the deformed image.
    back = deformed(deformed(maps, coordinates), inverse)
    np.testing.assert_allclose(back.sum(axis=0), 1, atol=1e-5)
    found, truth = back.argmax(axis=0), maps.argmax(axis=0)
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.98
    # Wrong is at most what lies at the border: interpolation moves it by less than a voxel.
    near = ndimage.binary_dilation(truth) & ~ndimage.binary_erosion(truth)
    assert not ((found != truth) & ~near).any()


def test_training_deforms_as_sites_do(shape, fields):
    velocity, coordinates, _ = fields
    sides = np.array(shape).reshape(-1, *[1] * len(shape)) - 1
    moved = displacement(torch.from_numpy(velocity)[None], shape)
    np.testing.assert_allclose(np.indices(shape) + moved[0].numpy() * sides, coordinates, atol=1e-3)
    image = np.random.default_rng(4).random((2, *shape), dtype=np.float32)
    found = warped(torch.from_numpy(image)[None], moved)[0].numpy()
    np.testing.assert_allclose(found, deformed(image, coordinates), atol=1e-3)


def test_gradients_reach_the_generator(shape):
    torch.manual_seed(1)
    generator = VelocityGenerator(len(shape), STRENGTH)
    image = torch.rand(1, 1, *shape)
    moved = displacement(generator(torch.randn(1, *code_shape(len(shape)))), shape)
    warped(image, moved).square().mean().backward()
    assert all(weight.grad is not None for weight in generator.parameters())
    assert generator.decide.weight.grad.abs().max() > 0
