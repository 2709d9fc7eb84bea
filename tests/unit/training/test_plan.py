"""What is planned follows the training data; data that do not fit are named."""

import math

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veilseg.datasets.cases import prepare_case, read_case, require_same_unit
from veilseg.datasets.layout import read_dataset
from veilseg.errors import GeometryMismatch, InvalidDataset, InvalidImage
from veilseg.imaging import checks
from veilseg.networks.segmenter import DIVISOR, SMALLEST_SIDE
from veilseg.training.plan import MOST_TILE_VOXELS, choose_tile, plan_and_prepare


def ignore(done, total):
    pass


def test_plan_holds_the_median_spacing_and_every_image(make_dataset):
    folder = make_dataset(("a", "b", "c"))
    for name, size in (("case000", 1.0), ("case001", 1.2), ("case002", 2.0)):
        for path in (
            folder / "imagesTr" / f"{name}_0000.nii.gz",
            folder / "labelsTr" / f"{name}.nii.gz",
        ):
            image = nib.load(path)
            array = np.asarray(image.dataobj)
            nib.save(nib.Nifti1Image(array, np.diag([size, size, size, 1])), path)
    dataset = read_dataset(folder)
    seen = []
    plan, prepared = plan_and_prepare(dataset, dataset.cases, lambda *at: seen.append(at))
    assert plan.spacing_mm == pytest.approx((1.2, 1.2, 1.2))
    assert seen == [(i + 1, 6) for i in range(6)]
    assert [case.name for case in prepared] == ["case000", "case001", "case002"]
    for case in prepared:
        assert case.image.shape == (1, *case.labels.shape)
        assert all(s >= t for s, t in zip(case.labels.shape, plan.tile_shape, strict=True))
        assert case.image.dtype == np.float32
        assert case.labels.dtype == np.uint8
    assert plan.expectation.spacing_mm == pytest.approx((1.0, 2.0))


def test_a_case_prepared_alone_equals_the_planned_one(make_dataset):
    dataset = read_dataset(make_dataset())
    plan, prepared = plan_and_prepare(dataset, dataset.cases, ignore)
    for case, expected in zip(dataset.cases, prepared, strict=True):
        alone = prepare_case(case, 2, plan.spacing_mm, plan.intensity, plan.tile_shape)
        assert (alone.name, alone.patient) == (expected.name, expected.patient)
        np.testing.assert_array_equal(alone.image, expected.image)
        np.testing.assert_array_equal(alone.labels, expected.labels)


shapes = st.lists(st.tuples(*[st.integers(1, 300)] * 3), min_size=1, max_size=30)


@given(shapes)
@settings(deadline=None, derandomize=True, max_examples=200)
def test_tile_fits_network_and_memory_and_holds_most_images(shapes):
    tile = choose_tile(shapes)
    assert all(size % DIVISOR == 0 and size >= SMALLEST_SIDE for size in tile)
    assert math.prod(tile) <= MOST_TILE_VOXELS
    wanted = np.percentile(shapes, 95, axis=0)
    uncut = [max(SMALLEST_SIDE, math.ceil(size / DIVISOR) * DIVISOR) for size in wanted]
    if math.prod(uncut) <= MOST_TILE_VOXELS:
        assert list(tile) == uncut
    else:
        assert all(size <= full for size, full in zip(tile, uncut, strict=True))
        # No axis was cut below another that still could have been.
        cut = [size for size, full in zip(tile, uncut, strict=True) if size < full]
        assert max(tile) - min(cut) <= DIVISOR


def test_tile_of_oasis_brains_and_2d_images():
    assert choose_tile([(99, 123, 95)] * 20) == (104, 128, 96)
    assert choose_tile([(250, 255)] * 3) == (256, 256)
    assert choose_tile([(200, 180, 5)]) == (200, 184, 16)


def test_label_that_is_not_in_dataset_json(make_dataset):
    folder = make_dataset()
    path = folder / "labelsTr" / "case001.nii.gz"
    labels = np.asarray(nib.load(path).dataobj).copy()
    labels[0, 0, 0] = 7
    nib.save(nib.Nifti1Image(labels, np.eye(4)), path)
    dataset = read_dataset(folder)
    with pytest.raises(InvalidDataset, match=r"label 7 is not in dataset.json \(0…1\)") as caught:
        plan_and_prepare(dataset, dataset.cases, ignore)
    assert str(path) in str(caught.value)


def test_labels_on_another_grid(make_dataset):
    folder = make_dataset()
    path = folder / "labelsTr" / "case001.nii.gz"
    labels = np.asarray(nib.load(path).dataobj)
    nib.save(nib.Nifti1Image(labels[1:], np.eye(4)), path)
    with pytest.raises(GeometryMismatch, match="shape") as caught:
        read_case(read_dataset(folder).cases[1], 2)
    assert str(path) in str(caught.value)
    nib.save(nib.Nifti1Image(labels, np.diag([2, 1, 1, 1])), path)
    with pytest.raises(GeometryMismatch, match="off the grid of") as caught:
        read_case(read_dataset(folder).cases[1], 2)
    assert str(path) in str(caught.value)


def test_unusable_image_is_named(make_dataset):
    folder = make_dataset()
    path = folder / "imagesTr" / "case002_0000.nii.gz"
    path.write_bytes(path.read_bytes()[:100])
    dataset = read_dataset(folder)
    with pytest.raises(InvalidImage) as caught:
        plan_and_prepare(dataset, dataset.cases, ignore)
    assert str(path) in str(caught.value)


def test_image_that_cannot_be_prepared_is_named(make_dataset):
    # Readable, but all its tissue has one intensity: the percentile rule has no range.
    folder = make_dataset()
    path = folder / "imagesTr" / "case002_0000.nii.gz"
    array = np.zeros((8, 9, 10), np.float32)
    array[2:6, 2:6, 2:6] = 5
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    dataset = read_dataset(folder)
    with pytest.raises(InvalidImage, match="the range 5…5 is empty") as caught:
        plan_and_prepare(dataset, dataset.cases, ignore)
    assert str(path) in str(caught.value)


def test_data_that_do_not_fit_into_memory_are_refused(make_dataset, monkeypatch):
    dataset = read_dataset(make_dataset(("a", "b", "c")))
    volume, labels = read_case(dataset.cases[0], 2)
    held = volume.array.nbytes + labels.array.nbytes
    # Room for two of three, of the quarter that raw data may take.
    monkeypatch.setattr(checks, "_memory_bytes", lambda: 4 * int(2.5 * held))
    with pytest.raises(InvalidImage, match=r"so far the training data: holds .* fit into memory"):
        plan_and_prepare(dataset, dataset.cases, ignore)


def test_sizes_in_two_units_are_refused(make_dataset):
    dataset = read_dataset(make_dataset(("a", "b")))
    require_same_unit(dataset.cases[0], "mm")
    require_same_unit(dataset.cases[1], "mm", "mm")
    with pytest.raises(InvalidDataset, match="is in pixel, that of those before it in mm") as found:
        require_same_unit(dataset.cases[1], "pixel", "mm")
    assert str(dataset.cases[1].images[0]) in str(found.value)
