"""Pictures are judged in pixels where there is no millimetre, and by a bundle of their kind."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from veilseg.bundle import IntensityRule
from veilseg.errors import InvalidImage
from veilseg.imaging.plausibility import expectation_of, spacing_for, warnings_for
from veilseg.imaging.preprocessing import prepare
from veilseg.imaging.volume import Geometry, Volume

PERCENTILES = IntensityRule("percentile", 0.5, 99.5)


def disc(seed=0, size=64, radius=25.0, unit="pixel", spacing=1.0, channels=1):
    rng = np.random.default_rng(seed)
    distance = np.hypot(*(np.indices((size, size)) - (size - 1) / 2)) / radius
    array = np.where(distance < 1, rng.uniform(0.2, 1, (channels, size, size)), 0)
    affine = np.eye(4) if unit == "pixel" else np.diag([spacing, spacing, 5, 1])
    return Volume(array.astype(np.float32), Geometry((size, size), affine, unit))


def prepared(volume):
    return prepare(volume, volume.geometry.spacing_mm, PERCENTILES, (1, 1)).array


@pytest.fixture(scope="module")
def expectation():
    volumes = [disc(seed) for seed in range(5)]
    return expectation_of(volumes, [prepared(volume) for volume in volumes])


def check(volume, expectation, unit="pixel"):
    return warnings_for(volume, prepared(volume), expectation, unit)


def test_pictures_like_those_of_training_draw_none(expectation):
    assert expectation.spacing_mm == (1, 1)
    for seed in range(20, 30):
        assert check(disc(seed), expectation) == []


def test_another_magnification_is_told_in_pixels(expectation):
    (line,) = check(disc(size=128, radius=50.0), expectation)
    assert line == (
        "the imaged region is 100 pixels long, 50…50 in training: another body part, a crop, "
        "or another magnification?"
    )


def test_background_that_is_not_zero_is_told_without_a_head(expectation):
    volume = disc()
    filled = Volume(volume.array + 1, volume.geometry)
    lines = check(filled, expectation)
    assert lines[0].startswith("0% of the pixels are zero, ")
    assert lines[0].endswith(" or more in training: a background that is not zero?")


@pytest.mark.parametrize("spacing", [0.01, 1.0, 50.0])
def test_pixels_are_taken_as_they_are_and_it_is_said(expectation, spacing):
    (line,) = check(disc(unit="mm", spacing=spacing), expectation)
    assert line == (
        "the bundle takes pixels as they are: the pixel size that the file states, "
        f"{spacing:.2g}…{spacing:.2g} mm, is not used"
    )


def test_slices_are_told_of_in_millimetres():
    volumes = [disc(seed, unit="mm") for seed in range(5)]
    known = expectation_of(volumes, [prepared(volume) for volume in volumes])
    assert check(disc(9, unit="mm"), known, "mm") == []
    lines = check(disc(9, unit="mm", spacing=3.0), known, "mm")
    assert lines == [
        "the imaged region is 150 mm long, 50…50 in training: another body part, a crop, "
        "or a wrong pixel size?",
        "pixels are 3…3 mm, 1…1 mm in training",
    ]


MANIFEST = SimpleNamespace(
    channels=("grey",), spatial_dims=2, unit="mm", spacing_mm=(0.5, 0.7), name="x"
)


def manifest(**fields):
    return SimpleNamespace(**{**vars(MANIFEST), **fields})


def test_a_bundle_in_millimetres_says_the_spacing():
    assert spacing_for(disc(unit="mm"), MANIFEST, "x") == (0.5, 0.7)


def test_a_bundle_in_pixels_takes_the_images_spacing():
    in_pixels = manifest(unit="pixel", spacing_mm=(1.0, 1.0))
    assert spacing_for(disc(), in_pixels, "x") == (1, 1)
    # As the patient's axes: the first one runs along the file's second.
    affine = np.array([[0, 2.0, 0, 0], [3.0, 0, 0, 0], [0, 0, 5, 0], [0, 0, 0, 1]])
    volume = disc(unit="mm")
    turned = Volume(volume.array, replace(volume.geometry, affine=affine))
    assert spacing_for(turned, in_pixels, "x") == (2, 3)
    ready = prepare(turned, spacing_for(turned, in_pixels, "x"), PERCENTILES, (1, 1))
    assert ready.restoration.zoom == (1, 1)


def test_what_is_not_of_the_bundles_kind_is_refused():
    for volume, bundle, reason in (
        (disc(), MANIFEST, "x: does not say how large a pixel is"),
        (disc(channels=3), MANIFEST, r"x: has 3 channels; the bundle takes 1 \(grey\)"),
        (disc(), manifest(channels=("R", "G", "B")), r"x: has 1 channel; the bundle takes 3 \(R, "),
        (disc(unit="mm"), manifest(spatial_dims=3), "x: is 2D; the bundle takes 3D images"),
    ):
        with pytest.raises(InvalidImage, match=reason):
            spacing_for(volume, bundle, "x")
    solid = Volume(np.ones((1, 2, 2, 2), np.float32), Geometry((2, 2, 2), np.eye(4)))
    with pytest.raises(InvalidImage, match="x: is 3D; the bundle takes 2D images"):
        spacing_for(solid, MANIFEST, "x")
