"""Slices and pictures come back to where they were, whatever plane they lie in."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veilseg.bundle import IntensityRule
from veilseg.errors import GeometryMismatch, InvalidImage
from veilseg.imaging.orientation import ras_spacing_mm
from veilseg.imaging.preprocessing import prepare, prepare_labels, restore, restore_map
from veilseg.imaging.volume import Geometry, LabelMap, Volume

WHOLE_RANGE = IntensityRule("percentile", 0, 100)
# Which axis of the patient the file's two run along, and which way.
PLANES = [
    (order, signs)
    for order in itertools.permutations(range(3), 2)
    for signs in itertools.product((-1, 1), repeat=2)
]


def slice_geometry(plane, spacing, shape):
    affine = np.zeros((4, 4))
    for axis, (target, sign) in enumerate(zip(*plane, strict=True)):
        affine[target, axis] = sign * spacing[axis]
    affine[({0, 1, 2} - set(plane[0])).pop(), 2] = 7.0
    affine[:, 3] = 4, -5, 6, 1
    return Geometry(shape, affine)


def picture(shape):
    return Geometry(shape, np.eye(4), "pixel")


def one_hot(labels, classes):
    return np.stack([labels == value for value in range(classes)]).astype(np.float32)


geometries = st.one_of(
    st.builds(
        slice_geometry,
        st.sampled_from(PLANES),
        st.tuples(*[st.floats(0.3, 3)] * 2),
        st.tuples(*[st.integers(2, 14)] * 2),
    ),
    st.builds(picture, st.tuples(*[st.integers(2, 14)] * 2)),
)


@given(geometries, st.integers(1, 3), st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_labels_come_back_exactly_at_their_own_spacing(geometry, channels, seed):
    rng = np.random.default_rng(seed)
    image = rng.random((channels, *geometry.shape), dtype=np.float32) + 0.1
    image[:, rng.random(geometry.shape) < 0.4] = 0
    image[:, 0, :2] = 0.3, 0.7
    labels = np.where(image[0] > 0, rng.integers(0, 4, geometry.shape), 0).astype(np.uint8)
    ready = prepare(Volume(image, geometry), ras_spacing_mm(geometry), WHOLE_RANGE, (6, 8))
    on_grid = prepare_labels(LabelMap(labels, geometry), ready.restoration, 4)
    assert ready.array.shape == (channels, *on_grid.shape)
    assert all(size >= tile for size, tile in zip(on_grid.shape, (6, 8), strict=True))
    back = restore(one_hot(on_grid, 4), ready.restoration)
    np.testing.assert_array_equal(back.array, labels)
    assert back.geometry is geometry


@given(geometries, st.tuples(*[st.floats(0.4, 2.5)] * 2), st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_other_spacings_come_back_on_the_files_grid(geometry, factors, seed):
    target = tuple(s * f for s, f in zip(ras_spacing_mm(geometry), factors, strict=True))
    image = np.random.default_rng(seed).random((1, *geometry.shape), dtype=np.float32) + 0.5
    ready = prepare(Volume(image, geometry), target, WHOLE_RANGE, (6, 8))
    everywhere = np.zeros((2, *ready.array.shape[1:]), np.float32)
    everywhere[1] = 1
    # Nothing is empty, so that what holds everywhere holds everywhere.
    assert (restore(everywhere, ready.restoration).array == 1).all()
    constant = np.full(ready.array.shape[1:], 0.25, np.float32)
    found = restore_map(constant, ready.restoration, 9.0)
    np.testing.assert_allclose(found, np.full(geometry.shape, 0.25), rtol=1e-6)


def test_a_pictures_axes_stay():
    rng = np.random.default_rng(0)
    image = rng.random((3, 5, 7), dtype=np.float32) + 0.1
    ready = prepare(
        Volume(image, picture((5, 7))), (1.0, 1.0), IntensityRule("as-is", 0, 1), (1, 1)
    )
    np.testing.assert_array_equal(ready.array, np.clip(image, 0, 1))


@pytest.mark.parametrize("plane", PLANES)
def test_a_slices_axes_are_turned_to_ras(plane):
    geometry = slice_geometry(plane, (2.0, 3.0), (4, 5))
    assert ras_spacing_mm(geometry) == ((2.0, 3.0) if plane[0][0] < plane[0][1] else (3.0, 2.0))
    image = np.random.default_rng(0).random((1, 4, 5), dtype=np.float32) + 0.1
    rule = IntensityRule("as-is", 0, 1)
    ready = prepare(Volume(image, geometry), ras_spacing_mm(geometry), rule, (1, 1))
    expected = np.clip(image[0], 0, 1)
    for axis, sign in enumerate(plane[1]):
        expected = np.flip(expected, axis) if sign < 0 else expected
    expected = expected if plane[0][0] < plane[0][1] else expected.T
    np.testing.assert_array_equal(ready.array[0], expected)


def test_each_channel_has_its_own_percentiles():
    rng = np.random.default_rng(0)
    image = np.stack([rng.random((9, 9)) + 1, 1000 * rng.random((9, 9)) + 1, np.zeros((9, 9))])
    image = image.astype(np.float32)
    ready = prepare(Volume(image, picture((9, 9))), (1.0, 1.0), WHOLE_RANGE, (1, 1))
    for channel in (0, 1):
        assert ready.array[channel].max() == 1
        assert 0 < ready.array[channel].min() < 0.01
        order = np.argsort(image[channel].ravel())
        assert (np.diff(ready.array[channel].ravel()[order]) >= 0).all()
    assert not ready.array[2].any()


def test_a_pixel_is_empty_if_it_is_zero_in_all_channels():
    image = np.zeros((2, 9, 9), np.float32)
    image[0, 2:5, 3:6] = np.arange(1, 10).reshape(3, 3)
    image[1, 4:8, 3:6] = np.arange(1, 13).reshape(4, 3)
    ready = prepare(Volume(image, picture((9, 9))), (1.0, 1.0), WHOLE_RANGE, (1, 1))
    assert ready.restoration.crop == (slice(2, 8), slice(3, 6))
    np.testing.assert_array_equal(ready.array > 0, image[:, 2:8, 3:6] > 0)


@pytest.mark.parametrize("shape", [(1, 9, 8), (9, 1, 8), (9, 8, 1)])
@pytest.mark.parametrize("factor", [1.0, 0.6, 1.7])
def test_an_axis_of_length_one(shape, factor):
    geometry = Geometry(shape, np.diag([1.0, 2.0, 5.0, 1]))
    rng = np.random.default_rng(0)
    image = rng.random((1, *shape), dtype=np.float32) + 0.1
    labels = np.zeros(shape, np.uint8)
    labels.reshape(max(shape[:2]), -1)[2:7] = 1
    target = tuple(s * factor for s in geometry.spacing_mm)
    ready = prepare(Volume(image, geometry), target, WHOLE_RANGE, (4, 4, 4))
    assert min(ready.array.shape[1:]) >= 4
    on_grid = prepare_labels(LabelMap(labels, geometry), ready.restoration, 2)
    back = restore(one_hot(on_grid, 2), ready.restoration).array
    if factor == 1.0:
        np.testing.assert_array_equal(back, labels)
    else:
        assert (back == labels).mean() > 0.7


def test_thick_slices_are_made_even_and_come_back():
    geometry = Geometry((20, 18, 6), np.diag([1.0, 1.0, 6.0, 1]))
    place = (np.indices(geometry.shape) - np.array([9.5, 8.5, 2.5]).reshape(3, 1, 1, 1)) * [
        [[[1]]],
        [[[1]]],
        [[[6]]],
    ]
    labels = (np.linalg.norm(place, axis=0) < 8).astype(np.uint8)
    image = np.random.default_rng(0).random((1, *geometry.shape), dtype=np.float32) + 0.5
    ready = prepare(Volume(image, geometry), (1.0, 1.0, 1.0), WHOLE_RANGE, (1, 1, 1))
    assert ready.array.shape == (1, 20, 18, 36)
    on_grid = prepare_labels(LabelMap(labels, geometry), ready.restoration, 2)
    back = restore(one_hot(on_grid, 2), ready.restoration).array
    assert 2 * (back & labels).sum() / (back.sum() + labels.sum()) > 0.9


def test_a_map_comes_back_between_its_values_and_with_what_is_outside():
    image = np.zeros((1, 12, 12), np.float32)
    image[0, 4:8, 4:10] = np.random.default_rng(0).random((4, 6)) + 1
    geometry = slice_geometry(((1, 0), (1, -1)), (1.0, 1.0), (12, 12))
    ready = prepare(Volume(image, geometry), (1.0, 1.0), WHOLE_RANGE, (8, 8))
    values = np.random.default_rng(1).random((8, 8), dtype=np.float32)
    found = restore_map(values, ready.restoration, 7.0)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found == 7.0, image[0] == 0)
    kept = values[tuple(slice(b, 8 - a) for b, a in ready.restoration.padding)]
    np.testing.assert_array_equal(np.sort(found[image[0] > 0]), np.sort(kept.ravel()))


def test_a_map_is_linear_between_the_samples():
    geometry = Geometry((20, 10), np.diag([1.0, 1.0, 1.0, 1]))
    image = np.random.default_rng(0).random((1, 20, 10), dtype=np.float32) + 0.5
    ready = prepare(Volume(image, geometry), (2.0, 1.0), WHOLE_RANGE, (1, 1))
    ramp = np.repeat(np.arange(10, dtype=np.float32)[:, None], 10, axis=1)
    found = restore_map(ramp, ready.restoration, 0.0)
    # The middle of sample i lies at 2·i + 0.5 of the file; beyond the last ones they are repeated.
    expected = np.clip((np.arange(20) - 0.5) / 2, 0, 9)
    np.testing.assert_allclose(found, np.repeat(expected[:, None], 10, axis=1), atol=1e-5)


def test_dimensions_must_agree():
    image = np.random.default_rng(0).random((1, 5, 7), dtype=np.float32)
    with pytest.raises(GeometryMismatch, match="a 2D image for 3D spacing"):
        prepare(Volume(image, picture((5, 7))), (1.0,) * 3, WHOLE_RANGE, (1, 1, 1))


def test_binary_picture_has_no_range():
    image = np.zeros((1, 5, 7), np.float32)
    image[0, 2] = 255
    with pytest.raises(InvalidImage, match="the range 255…255 is empty"):
        prepare(Volume(image, picture((5, 7))), (1.0, 1.0), WHOLE_RANGE, (1, 1))
