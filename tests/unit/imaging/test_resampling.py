"""Interpolation axis by axis equals SciPy's of the whole, wherever it is asked for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from veilseg.imaging import resampling
from veilseg.imaging.resampling import linear, reach

zooms = st.one_of(st.just(1.0), st.floats(0.2, 4.0))
cases = st.integers(2, 3).flatmap(
    lambda dims: st.tuples(
        st.tuples(*[st.integers(1, 12)] * dims), st.tuples(*[zooms] * dims), st.integers(0, 2**31)
    )
)


def by_scipy(array, shape, zoom):
    """The same law, all axes at once and in double precision."""
    blurred = ndimage.gaussian_filter(
        array.astype(np.float64), [max(0.0, (1 / factor - 1) / 2) for factor in zoom]
    )
    step = 1 / np.array(zoom)
    return ndimage.affine_transform(
        blurred, step, (step - 1) / 2, output_shape=shape, order=1, mode="nearest"
    )


def finer(shape, zoom):
    return tuple(max(1, round(size * factor)) for size, factor in zip(shape, zoom, strict=True))


@given(cases)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_whole_grid_equals_scipys(case):
    shape, zoom, seed = case
    array = np.random.default_rng(seed).random(shape, dtype=np.float32)
    target = finer(shape, zoom)
    found = linear(array, tuple(slice(0, size) for size in target), zoom)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_scipy(array, target, zoom), atol=2e-6)


@given(cases, st.data())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_a_region_equals_that_part_of_the_whole(case, data):
    shape, zoom, seed = case
    array = np.random.default_rng(seed).random(shape, dtype=np.float32)
    target = finer(shape, zoom)
    region = []
    for size in target:
        start = data.draw(st.integers(0, size - 1))
        region.append(slice(start, data.draw(st.integers(start + 1, size))))
    whole = linear(array, tuple(slice(0, size) for size in target), zoom)
    np.testing.assert_allclose(linear(array, tuple(region), zoom), whole[tuple(region)], atol=1e-6)


@given(st.integers(1, 40), zooms, st.data())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_nothing_beyond_its_reach_depends_on_a_part(size, zoom, data):
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start + 1, size))
    inside = np.zeros(size, np.float32)
    inside[start:stop] = 1
    (target,) = finer((size,), (zoom,))
    found = np.flatnonzero(linear(inside, (slice(0, target),), (zoom,)))
    reached = reach(slice(start, stop), zoom, target)
    assert 0 <= reached.start <= reached.stop <= target
    assert all(reached.start <= place < reached.stop for place in found)


@pytest.mark.parametrize("order", ["C", "F"])
def test_blocks_leave_no_seam(order, monkeypatch):
    array = np.asarray(np.random.default_rng(0).random((13, 9, 11)), dtype=np.float32, order=order)
    region, zoom = (slice(1, 20), slice(0, 5), slice(2, 11)), (1.7, 0.6, 1.0)
    whole = linear(array, region, zoom)
    monkeypatch.setattr(resampling, "BLOCK_VOXELS", 100)
    np.testing.assert_array_equal(linear(array, region, zoom), whole)
