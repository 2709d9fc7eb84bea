"""Surface distances in millimetres: closed forms, borders and empty masks."""

import sys

import numpy as np
import pytest

from veilseg.errors import GeometryMismatch, MissingDependency
from veilseg.evaluation.surface import hd95_mm, surface_dice


def box(start, shape=(20, 20, 20), size=6):
    labels = np.zeros(shape, np.uint8)
    labels[tuple(slice(at, at + size) for at in start)] = 1
    return labels


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_shift_along_one_axis_is_measured_in_millimetres(axis):
    spacing = (1.0, 2.0, 3.0)
    start = [4, 4, 4]
    truth = box(start)
    start[axis] += 2
    # The end faces lie 2 voxels apart; no surface voxel is farther from the other surface.
    assert hd95_mm(box(start), truth, 2, spacing)[0] == pytest.approx(2 * spacing[axis])


def test_equal_maps_agree_fully_also_at_the_image_border():
    for start in ([0, 0, 0], [14, 14, 14], [7, 7, 7]):
        labels = box(start)
        assert hd95_mm(labels, labels, 2, (1.0, 1.0, 2.5)) == (0.0,)
        assert surface_dice(labels, labels, 2, (1.0, 1.0, 2.5)) == (1.0,)


def test_border_of_the_image_changes_nothing():
    inside, at_border = (box([s, s, s]) for s in (5, 0))
    moved, moved_at_border = (box([s + 2, s, s]) for s in (5, 0))
    spacing = (1.5, 1.0, 1.0)
    assert hd95_mm(moved, inside, 2, spacing) == hd95_mm(moved_at_border, at_border, 2, spacing)
    assert surface_dice(moved, inside, 2, spacing) == pytest.approx(
        surface_dice(moved_at_border, at_border, 2, spacing)
    )


def test_surface_dice_forgives_within_the_tolerance_only():
    truth, shifted = box([4, 4, 4]), box([5, 4, 4])
    assert surface_dice(shifted, truth, 2, (1.0, 1.0, 1.0), tolerance_mm=1.0) == (1.0,)
    assert surface_dice(shifted, truth, 2, (2.0, 2.0, 2.0), tolerance_mm=1.0)[0] < 1.0
    assert surface_dice(shifted, truth, 2, (2.0, 2.0, 2.0), tolerance_mm=2.0) == (1.0,)


def test_surface_dice_weighs_by_area():
    # A slab one voxel thicker on one side: of its surface, that face alone is off. With faces of
    # 16×16 mm against a rim of 4 × 16 × 8 mm, area decides, not the number of voxels.
    truth = np.zeros((24, 24, 24), np.uint8)
    truth[4:20, 4:20, 8:12] = 1
    thicker = truth.copy()
    thicker[4:20, 4:20, 12] = 1
    spacing = (1.0, 1.0, 2.0)
    face, rim_true, rim_found = 16 * 16, 4 * 16 * 8, 4 * 16 * 10
    off = 2 * face + 4 * 16 * 2  # both top faces and the new layer's rim
    expected = 1 - off / (4 * face + rim_true + rim_found)
    # Marching cubes cut edges and corners, by less than one voxel ring: 4 × 16 × 1 mm per face.
    slack = 4 * 4 * 16 / (4 * face + rim_true + rim_found)
    assert surface_dice(thicker, truth, 2, spacing)[0] == pytest.approx(expected, abs=slack)


def test_2d():
    truth, moved = np.zeros((2, 16, 16), np.uint8)
    truth[4:9, 4:9] = 1
    moved[6:11, 4:9] = 1
    assert hd95_mm(moved, truth, 2, (0.5, 0.5)) == (1.0,)
    assert hd95_mm(moved, truth, 2, (3.0, 0.5)) == (6.0,)
    assert surface_dice(moved, truth, 2, (0.5, 0.5)) == (1.0,)
    assert surface_dice(moved, truth, 2, (3.0, 0.5))[0] < 1.0


@pytest.mark.parametrize("shape", [(20, 20, 20), (20, 20)])
def test_empty_masks(shape):
    truth = box([4] * len(shape), shape)
    nothing = np.zeros_like(truth)
    spacing = (1.0,) * len(shape)
    for predicted, wanted in ((nothing, truth), (truth, nothing)):
        assert np.isnan(hd95_mm(predicted, wanted, 2, spacing)[0])
        assert surface_dice(predicted, wanted, 2, spacing) == (0.0,)
    assert np.isnan(hd95_mm(nothing, nothing, 2, spacing)[0])
    assert np.isnan(surface_dice(nothing, nothing, 2, spacing)[0])


def test_each_class_is_measured_alone():
    truth = box([2, 2, 2]) + 2 * box([12, 12, 12])
    predicted = box([2, 2, 2]) + 2 * box([12, 12, 11])
    assert hd95_mm(predicted, truth, 4, (1.0, 1.0, 1.0))[:2] == (0.0, 1.0)


def test_maps_that_do_not_fit_are_refused():
    with pytest.raises(GeometryMismatch, match="predicted labels of shape"):
        hd95_mm(np.zeros((4, 4), int), np.zeros((4, 5), int), 2, (1.0, 1.0))
    with pytest.raises(GeometryMismatch, match="spacing_mm"):
        surface_dice(np.zeros((4, 4), int), np.zeros((4, 4), int), 2, (1.0, 1.0, 1.0))


def test_missing_torch_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependency, match="torch and MONAI"):
        hd95_mm(box([4, 4, 4]), box([4, 4, 4]), 2, (1.0, 1.0, 1.0))
