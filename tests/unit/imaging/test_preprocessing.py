"""From any grid to the bundle's and back: every result lies where its image lies."""

import itertools
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from veilseg.bundle import IntensityRule
from veilseg.errors import GeometryMismatch, InvalidImage
from veilseg.imaging.orientation import ras_spacing_mm
from veilseg.imaging.preprocessing import (
    padding_to,
    prepare,
    prepare_labels,
    restore,
)
from veilseg.imaging.volume import Geometry, LabelMap, Volume

WHOLE_RANGE = IntensityRule("percentile", 0, 100)
ORIENTATIONS = [
    (order, signs)
    for order in itertools.permutations(range(3))
    for signs in itertools.product((-1, 1), repeat=3)
]


@dataclass(frozen=True)
class Grid:
    """A grid whose file axis k runs along RAS axis ``order[k]``."""

    geometry: Geometry
    ras_spacing: tuple[float, ...]


def grid_of(orientation, spacing, shape, angles, origin=(0.0, 0.0, 0.0)):
    order, signs = orientation
    axes = np.zeros((3, 3))
    for axis, (target, sign) in enumerate(zip(order, signs, strict=True)):
        axes[target, axis] = sign * spacing[axis]
    affine = np.eye(4)
    # Tilted by less than 45° in all, so that the closest RAS axes stay the same.
    affine[:3, :3] = Rotation.from_euler("xyz", angles).as_matrix() @ axes
    affine[:3, 3] = origin
    return Grid(Geometry(shape, affine), tuple(spacing[order.index(axis)] for axis in range(3)))


spacings = st.tuples(*[st.floats(0.8, 2.5)] * 3)
angles = st.tuples(*[st.floats(-0.25, 0.25)] * 3)
origins = st.tuples(*[st.floats(-200, 200)] * 3)
orientations = st.sampled_from(ORIENTATIONS)


def one_hot(labels, classes):
    return np.stack([labels == value for value in range(classes)]).astype(np.float32)


def ball(grid, radius_mm):
    """Voxels within a radius of the middle of the grid."""
    indices = np.indices(grid.geometry.shape).reshape(3, -1)
    middle = (np.array(grid.geometry.shape) - 1) / 2
    offset = grid.geometry.affine[:3, :3] @ (indices - middle[:, None])
    return (np.linalg.norm(offset, axis=0) <= radius_mm).reshape(grid.geometry.shape)


def dice(first, second):
    return 2 * (first & second).sum() / (first.sum() + second.sum())


@given(
    orientations,
    spacings,
    st.tuples(*[st.integers(3, 9)] * 3),
    angles,
    origins,
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_labels_come_back_exactly_at_the_bundles_own_spacing(
    orientation, spacing, shape, tilt, origin, seed
):
    grid = grid_of(orientation, spacing, shape, tilt, origin)
    rng = np.random.default_rng(seed)
    image = rng.random(shape, dtype=np.float32) + 0.1
    image[rng.random(shape) < 0.4] = 0
    image.flat[:2] = 0.3, 0.7
    labels = np.where(image > 0, rng.integers(0, 4, shape), 0).astype(np.uint8)
    ready = prepare(Volume(image[None], grid.geometry), grid.ras_spacing, WHOLE_RANGE, (6, 7, 8))
    on_grid = prepare_labels(LabelMap(labels, grid.geometry), ready.restoration, 4)
    assert on_grid.shape == ready.array.shape[1:]
    back = restore(one_hot(on_grid, 4), ready.restoration)
    np.testing.assert_array_equal(back.array, labels)
    assert back.array.dtype == np.uint8
    assert back.geometry.shape == shape
    np.testing.assert_array_equal(back.geometry.affine, grid.geometry.affine)


def test_every_orientation_comes_back():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (4, 5, 6)).astype(np.uint8)
    image = np.ones((1, 4, 5, 6), np.float32) + rng.random((1, 4, 5, 6), dtype=np.float32)
    for orientation in ORIENTATIONS:
        grid = grid_of(orientation, (1.0, 2.0, 3.0), (4, 5, 6), (0, 0, 0))
        ready = prepare(Volume(image, grid.geometry), grid.ras_spacing, WHOLE_RANGE, (1, 1, 1))
        on_grid = prepare_labels(LabelMap(labels, grid.geometry), ready.restoration, 3)
        canonical = nib.as_closest_canonical(nib.Nifti1Image(labels, grid.geometry.affine))
        np.testing.assert_array_equal(on_grid, np.asarray(canonical.dataobj))
        np.testing.assert_array_equal(restore(one_hot(on_grid, 3), ready.restoration).array, labels)


@given(orientations, spacings, spacings, angles)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_smooth_shape_comes_back_within_half_a_voxel_of_each_grid(orientation, own, target, tilt):
    radius_mm = 16.0
    shape = tuple(int(np.ceil(2 * (radius_mm + 6) / size)) for size in own)
    grid = grid_of(orientation, own, shape, tilt)
    labels = ball(grid, radius_mm).astype(np.uint8)
    image = np.random.default_rng(0).random(shape, dtype=np.float32) + 0.5
    ready = prepare(Volume(image[None], grid.geometry), target, WHOLE_RANGE, (8, 8, 8))
    on_grid = prepare_labels(LabelMap(labels, grid.geometry), ready.restoration, 2)
    back = restore(one_hot(on_grid, 2), ready.restoration)
    # On a locally flat surface, linear interpolation of a mask crosses one half between the last
    # voxel inside and the first outside: off by at most half a voxel per axis, once per grid. The
    # ball's surface thus moves by at most δ, and shrinking by δ lowers Dice most.
    delta = (np.linalg.norm(own) + np.linalg.norm(target)) / 2
    least = 2 * (radius_mm - delta) ** 3 / (radius_mm**3 + (radius_mm - delta) ** 3)
    assert dice(back.array == 1, labels == 1) >= least
    np.testing.assert_array_equal(back.geometry.affine, grid.geometry.affine)


def test_resampling_neither_grows_nor_shrinks_shapes():
    # No ratio of 3:2, where a third of the samples lie exactly between two voxels: a tie is
    # background, by rule, and that is a bias.
    for own, target in (((1.6,) * 3, (1.1,) * 3), ((1.1,) * 3, (1.6,) * 3)):
        grid = grid_of(ORIENTATIONS[0], own, (40, 40, 40), (0, 0, 0))
        labels = ball(grid, 14.0).astype(np.uint8)
        image = np.random.default_rng(0).random((1, 40, 40, 40), dtype=np.float32) + 0.5
        ready = prepare(Volume(image, grid.geometry), target, WHOLE_RANGE, (8, 8, 8))
        on_grid = prepare_labels(LabelMap(labels, grid.geometry), ready.restoration, 2)
        back = restore(one_hot(on_grid, 2), ready.restoration)
        # Symmetric errors cancel: the radius is off by a tenth of a voxel at the most.
        for count, size in ((on_grid.sum(), target[0]), (back.array.sum(), own[0])):
            radius = (3 / (4 * np.pi) * count * size**3) ** (1 / 3)
            assert radius == pytest.approx(14.0, abs=0.1 * max(own[0], target[0]))


@given(orientations, spacings, spacings, angles, origins, st.tuples(*[st.floats(-0.2, 0.2)] * 3))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_landmark_keeps_its_place_in_the_patient(orientation, own, target, tilt, origin, offset):
    shape = tuple(int(np.ceil(48 / size)) for size in own)
    grid = grid_of(orientation, own, shape, tilt, origin)
    affine = grid.geometry.affine
    landmark_index = (np.array(shape) - 1) / 2 + np.array(offset) * np.array(shape)
    landmark_mm = affine[:3, :3] @ landmark_index + affine[:3, 3]
    indices = np.indices(shape).reshape(3, -1)
    places = affine[:3, :3] @ indices + affine[:3, [3]]
    distance = np.linalg.norm(places - landmark_mm[:, None], axis=0).reshape(shape)
    image = (0.4 + np.exp(-(distance**2) / (2 * 5.0**2))).astype(np.float32)
    image[:2] = 0  # an empty border on one side: cropping must be accounted for

    ready = prepare(Volume(image[None], grid.geometry), target, WHOLE_RANGE, (64, 64, 64))
    # Where it should be, from nibabel's canonical image and the definition of a common corner.
    canonical = nib.as_closest_canonical(nib.Nifti1Image(image, affine)).affine
    ras_index = np.linalg.solve(canonical[:3, :3], landmark_mm - canonical[:3, 3])
    ratio = np.array(grid.ras_spacing) / np.array(target)
    expected = (ras_index + 0.5) * ratio - 0.5
    expected -= [kept.start for kept in ready.restoration.crop]
    expected += [before for before, _ in ready.restoration.padding]
    # The blob's upper part, symmetric about its middle.
    weights = np.clip(ready.array[0] - 0.6 * ready.array[0].max(), 0, None)
    assert weights.any()
    found = (np.indices(weights.shape) * weights).sum(axis=(1, 2, 3)) / weights.sum()
    np.testing.assert_allclose(found, expected, atol=0.5)

    back = restore(one_hot(weights > 0, 2), ready.restoration)
    found_index = np.argwhere(back.array == 1).mean(axis=0)
    np.testing.assert_allclose(found_index, landmark_index, atol=0.5)
    found_mm = affine[:3, :3] @ found_index + affine[:3, 3]
    assert np.linalg.norm(found_mm - landmark_mm) <= np.linalg.norm(own) / 2


def volume_with(array, spacing=1.0):
    return Volume(array, Geometry(array.shape[1:], np.diag([spacing] * 3 + [1.0])))


def test_empty_margins_are_cropped_and_the_tile_is_reached():
    array = np.zeros((1, 20, 20, 20), np.float32)
    array[0, 3:13, 5:8, 10:18] = np.random.default_rng(0).random((10, 3, 8)) + 1
    ready = prepare(volume_with(array), (1.0, 1.0, 1.0), WHOLE_RANGE, (8, 8, 8))
    assert ready.restoration.crop == (slice(3, 13), slice(5, 8), slice(10, 18))
    assert ready.array.shape == (1, 10, 8, 8)
    assert ready.restoration.padding == ((0, 0), (2, 3), (0, 0))
    inside = ready.array[0, :, 2:5]
    assert (inside > 0).all()
    assert not ready.array[0, :, :2].any()
    assert not ready.array[0, :, 5:].any()


def test_outside_the_crop_is_background_whatever_the_server_says():
    array = np.zeros((1, 12, 12, 12), np.float32)
    array[0, 4:8, 4:8, 4:8] = np.random.default_rng(0).random((4, 4, 4)) + 1
    ready = prepare(volume_with(array), (1.0, 1.0, 1.0), WHOLE_RANGE, (10, 10, 10))
    everywhere = np.zeros((2, 10, 10, 10), np.float32)
    everywhere[1] = 1
    back = restore(everywhere, ready.restoration).array
    np.testing.assert_array_equal(back == 1, array[0] > 0)


def test_more_voxels_than_memory_holds_are_refused_before_they_are_made():
    # A header can say anything: voxels of 10 m become 10¹² of a millimetre.
    array = np.random.default_rng(0).random((1, 4, 4, 4)).astype(np.float32)
    reason = r"^at the bundle's spacing: would have 64,000,000,000,000 voxels, more than the"
    with pytest.raises(InvalidImage, match=reason):
        prepare(volume_with(array, 1e4), (1.0, 1.0, 1.0), WHOLE_RANGE, (8, 8, 8))


def test_padding_puts_the_image_in_the_middle():
    assert padding_to((5, 8, 10), (8, 8, 8)) == ((1, 2), (0, 0), (0, 0))


@pytest.mark.parametrize("target", [(1.0, 1.0, 1.0), (1.7, 0.6, 1.0), (2.5, 2.5, 2.5)])
def test_empty_stays_empty_and_present_stays_present(target):
    rng = np.random.default_rng(0)
    array = np.zeros((2, 24, 24, 24), np.float32)
    array[:, 4:20, 4:20, 4:20] = rng.random((2, 16, 16, 16))
    array[:, 8:12, 8:12, 8:12] = 0  # a hole
    ready = prepare(volume_with(array), target, IntensityRule("percentile", 20, 80), (4, 4, 4))
    assert ready.array.dtype == np.float32
    assert ready.array.min() == 0
    assert ready.array.max() <= 1
    present = (ready.array > 0).any(axis=0)
    kept = np.asarray(
        present[
            tuple(
                slice(b, n - a)
                for (b, a), n in zip(ready.restoration.padding, present.shape, strict=True)
            )
        ]
    )
    # As many voxels as the volume has room for; the rest of it, the hole, is exactly zero.
    volume_mm3 = 16**3 - 4**3
    assert kept.sum() * np.prod(target) == pytest.approx(volume_mm3, rel=0.25)
    # And what is present can be told from empty at the wire's precision.
    assert (ready.array[ready.array > 0].astype(np.float16) > 0).all()


def test_nothing_within_the_window_is_refused():
    array = np.random.default_rng(0).random((1, 4, 4, 4), dtype=np.float32)
    with pytest.raises(InvalidImage, match="no voxel is left above the lower bound"):
        prepare(volume_with(array), (1.0,) * 3, IntensityRule("window", 10, 20), (4, 4, 4))


def test_range_without_width_is_refused():
    array = np.zeros((1, 4, 4, 4), np.float32)
    array[0, 1:3] = 5
    with pytest.raises(InvalidImage, match="the range 5…5 is empty"):
        prepare(volume_with(array), (1.0,) * 3, IntensityRule("percentile", 1, 99), (4, 4, 4))


def test_what_vanishes_at_the_bundles_spacing_is_refused():
    array = np.zeros((1, 12, 12, 12), np.float32)
    array[0, 6, 6, 6:8] = 1, 2
    with pytest.raises(InvalidImage, match="no voxel is left"):
        prepare(volume_with(array), (4.0,) * 3, WHOLE_RANGE, (1, 1, 1))


def test_labels_of_another_shape_are_refused():
    array = np.random.default_rng(0).random((1, 4, 4, 4), dtype=np.float32)
    ready = prepare(volume_with(array), (1.0,) * 3, WHOLE_RANGE, (4, 4, 4))
    other = LabelMap(np.zeros((4, 4, 5), np.uint8), Geometry((4, 4, 5), np.eye(4)))
    with pytest.raises(GeometryMismatch, match=r"labels of shape \(4, 4, 5\)"):
        prepare_labels(other, ready.restoration, 2)


def test_spacing_follows_the_closest_ras_axes():
    grid = grid_of(((2, 0, 1), (-1, 1, -1)), (1.0, 2.0, 3.0), (4, 5, 6), (0.2, -0.1, 0.1))
    assert ras_spacing_mm(grid.geometry) == pytest.approx((2.0, 3.0, 1.0))


def test_arrays_must_fit_their_grid():
    geometry = Geometry((4, 4, 4), np.eye(4))
    with pytest.raises(GeometryMismatch, match="array of shape"):
        Volume(np.zeros((1, 4, 4, 5), np.float32), geometry)
    with pytest.raises(GeometryMismatch, match="labels of shape"):
        LabelMap(np.zeros((4, 4, 5), np.uint8), geometry)
