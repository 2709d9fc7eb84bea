"""An image unlike the training images draws a warning that says how; one like them draws none."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from veilseg.bundle import IntensityRule
from veilseg.imaging.nifti import read_image
from veilseg.imaging.orientation import ras_spacing_mm
from veilseg.imaging.plausibility import expectation_of, warnings_for
from veilseg.imaging.preprocessing import prepare
from veilseg.imaging.volume import Geometry, Volume

PERCENTILES = IntensityRule("percentile", 0.5, 99.5)
SPACING = (4.0, 4.0, 4.0)


def prepared(volume, spacing=SPACING):
    return prepare(volume, spacing, PERCENTILES, (1, 1, 1)).array


def check(volume, expectation, spacing=SPACING):
    return warnings_for(volume, prepared(volume, spacing), expectation)


@pytest.fixture(scope="module")
def expectation(make_brain):
    volumes = [make_brain(seed) for seed in range(8)]
    return expectation_of(volumes, [prepared(volume) for volume in volumes])


def test_image_like_those_of_training_draws_none(make_brain, expectation):
    for seed in range(100, 120):
        assert check(make_brain(seed), expectation) == []


def test_scanner_scale_and_field_of_view_draw_none(make_brain, expectation):
    volume = make_brain(100)
    scaled = Volume(volume.array * 5000, volume.geometry)
    assert check(scaled, expectation) == []
    wide = np.pad(volume.array, ((0, 0), (9, 0), (0, 30), (8, 8)))
    assert check(Volume(wide, Geometry(wide.shape[1:], volume.geometry.affine)), expectation) == []


def test_finer_voxels_draw_none(make_brain, expectation):
    assert check(make_brain(100, spacing_mm=2.0), expectation) == []


def with_skull(volume, air=0.0):
    """Fluid, skull and scalp around the brain; ``air`` is the noise outside."""
    brain = volume.array[0]
    rng = np.random.default_rng(0)
    distance = ndimage.distance_transform_edt(brain == 0, sampling=volume.geometry.spacing_mm)
    head = brain.copy()
    for low, high, value in ((0, 4, 0.2), (4, 10, 0.1), (10, 18, 0.95)):
        layer = (distance > low) & (distance <= high)
        head[layer] = np.clip(value + rng.normal(0, 0.05, layer.sum()), 0.01, 1)
    outside = head == 0
    head[outside] = np.abs(rng.normal(0, air, outside.sum())) if air else 0
    return Volume(head[None].astype(np.float32), volume.geometry)


@pytest.mark.parametrize("air", [0.0, 0.02])
def test_head_with_its_skull_is_named(make_brain, expectation, air):
    found = check(with_skull(make_brain(100), air), expectation)
    assert any("not skull-stripped" in line for line in found)


def test_background_that_is_not_zero_is_named(make_brain, expectation):
    volume = make_brain(100)
    found = check(Volume(volume.array + 0.01, volume.geometry), expectation)
    assert any("background that is not zero" in line for line in found)


@pytest.mark.parametrize("factor", [0.1, 0.67, 1.5, 10])
def test_wrong_voxel_size_in_the_header_is_named(make_brain, expectation, factor):
    volume = make_brain(100)
    wrong = Geometry(volume.geometry.shape, np.diag([4 * factor] * 3 + [1.0]))
    wrong_volume = Volume(volume.array, wrong)
    # As the header says: the bundle's spacing scaled alike, so that the test stays fast.
    found = check(wrong_volume, expectation, tuple(s * factor for s in SPACING))
    assert any("wrong voxel size" in line for line in found)


def test_thick_slices_are_named(make_brain, expectation):
    volume = make_brain(100)
    array = np.ascontiguousarray(volume.array[..., ::4])
    affine = volume.geometry.affine @ np.diag([1, 1, 4, 1])
    found = check(Volume(array, Geometry(array.shape[1:], affine)), expectation)
    assert any("voxels are 4…16 mm, 4…4 mm in training" in line for line in found)


def test_missing_voxel_size_is_named(make_brain, expectation):
    volume = make_brain(100)
    unsized = replace(volume, geometry=replace(volume.geometry, sized=False))
    (line,) = check(unsized, expectation)
    assert line == "the file does not say how large a voxel is: 1 mm is assumed"


@pytest.mark.parametrize("radius_mm", [45.0, 115.0])
def test_other_extent_is_named(make_brain, expectation, radius_mm):
    found = check(make_brain(100, radius_mm=radius_mm), expectation)
    assert any("mm long" in line and "another body part" in line for line in found)


def test_inverted_contrast_is_named(make_brain, expectation):
    volume = make_brain(100)
    inverted = np.where(volume.array > 0, 1.05 - volume.array, 0).astype(np.float32)
    found = check(Volume(inverted, volume.geometry), expectation)
    assert any("another modality or contrast" in line for line in found)


def test_expectation_survives_json(expectation):
    fields = json.loads(json.dumps(expectation.__dict__))
    again = replace(
        expectation, **{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    )
    assert again == expectation


def folds(shared_data, name):
    folder = shared_data / name
    rows = [line.split(",") for line in (folder / "cases.csv").read_text().split()[1:]]
    volumes = [read_image([folder / "imagesTr" / f"{row[0]}_0000.nii.gz"]) for row in rows]
    spacing = tuple(np.median([ras_spacing_mm(volume.geometry) for volume in volumes], axis=0))
    arrays = [prepared(volume, spacing) for volume in volumes]
    patients = sorted({row[1] for row in rows})
    for fold in range(5):
        held = [row[1] in set(patients[fold::5]) for row in rows]
        known = expectation_of(
            [v for v, out in zip(volumes, held, strict=True) if not out],
            [a for a, out in zip(arrays, held, strict=True) if not out],
        )
        for row, volume, array, out in zip(rows, volumes, arrays, held, strict=True):
            if out:
                yield row[0], volume, array, spacing, known


@pytest.mark.parametrize(("name", "cases"), [("brain_t1_oasis_3d", 28), ("hippocampus", 200)])
def test_real_images_held_out_draw_none(shared_data, name, cases):
    found = {case: warnings_for(v, a, known) for case, v, a, _, known in folds(shared_data, name)}
    assert len(found) == cases
    assert {case: lines for case, lines in found.items() if lines} == {}


def test_real_brains_given_wrongly_are_named(shared_data):
    for number, (case, volume, _, spacing, known) in enumerate(
        folds(shared_data, "brain_t1_oasis_3d")
    ):
        if number % 7:
            continue
        skull = check(
            with_skull(Volume(volume.array / volume.array.max(), volume.geometry)), known, spacing
        )
        assert any("not skull-stripped" in line for line in skull), case
        inverted = np.where(volume.array > 0, volume.array.max() + 1 - volume.array, 0)
        found = check(Volume(inverted, volume.geometry), known, spacing)
        assert any("another modality or contrast" in line for line in found), case
