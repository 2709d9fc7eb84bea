"""The intensity rules of ``imaging.preprocessing``."""

import numpy as np

from veilseg.bundle import IntensityRule
from veilseg.imaging.intensity import SMALLEST_PRESENT, rescale


def test_percentile_takes_its_bounds_from_what_is_not_zero():
    array = np.zeros(1000, np.float32)
    array[:101] = np.arange(100, 201)
    scaled = rescale(array, IntensityRule("percentile", 10, 90))
    np.testing.assert_allclose(
        scaled[10:91], np.linspace(0, 1, 81).clip(SMALLEST_PRESENT), atol=1e-6
    )
    assert (scaled[:10] == SMALLEST_PRESENT).all()
    assert (scaled[91:101] == 1).all()
    assert not scaled[101:].any()


def test_percentile_does_not_depend_on_the_scanners_scale():
    array = np.random.default_rng(0).gamma(2, 100, (6, 6, 6)).astype(np.float32)
    rule = IntensityRule("percentile", 0.5, 99.5)
    np.testing.assert_allclose(rescale(array, rule), rescale(array * 1e4, rule), atol=1e-5)


def test_window_takes_its_bounds_as_they_are():
    array = np.array([-1000, -100, 0, 50, 100, 3000], np.float32)
    scaled = rescale(array, IntensityRule("window", -100, 100))
    np.testing.assert_allclose(scaled, [0, 0, 0.5, 0.75, 1, 1])


def test_as_is_only_clips():
    array = np.array([-1, 0, 0.25, 1, 2], np.float32)
    np.testing.assert_array_equal(rescale(array, IntensityRule("as-is", 0, 1)), [0, 0, 0.25, 1, 1])
