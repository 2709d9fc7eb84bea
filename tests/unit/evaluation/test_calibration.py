"""Calibration against closed forms: calibrated, overconfident, and errors that look unsure."""

import numpy as np
import pytest

from veilseg.errors import GeometryMismatch
from veilseg.evaluation.calibration import CONFIDENCE_BINS, Calibration

SHAPES = [(40, 50), (20, 10, 10)]


def result(*cases):
    calibration = Calibration()
    for probabilities, truth in cases:
        calibration.add(probabilities, truth)
    return calibration.result()


def two_classes(confidence, right, shape):
    """Class 1 chosen with a confidence against class 2, right or not; background ruled out."""
    confidence = np.broadcast_to(confidence, shape).astype(np.float32)
    probabilities = np.stack([np.zeros(shape, np.float32), confidence, 1 - confidence])
    return probabilities, np.where(right, 1, 2).astype(np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
def test_calibrated_probabilities_have_no_error(shape):
    rng = np.random.default_rng(0)
    cases = []
    for _ in range(50):
        confidence = rng.uniform(0.5, 1, shape)
        cases.append(two_classes(confidence, rng.random(shape) < confidence, shape))
    found = result(*cases)
    voxels = 50 * np.prod(shape)
    assert sum(entry["voxels"] for entry in found["bins"]) == voxels
    # Accuracy of a bin of n voxels is off by at most ½/√n (one sd); summed over the 8 bins that
    # lie above ½, weighted by n/N, that is ½·√(8/N) at most. Four of it.
    assert found["ece"] < 4 * 0.5 * np.sqrt(8 / voxels)


@pytest.mark.parametrize("shape", SHAPES)
def test_overconfidence_is_measured(shape):
    right = np.zeros(shape, dtype=bool)
    right.flat[: int(0.6 * right.size)] = True
    found = result(two_classes(0.9, right, shape))
    assert found["ece"] == pytest.approx(0.3, abs=1e-4)
    (full,) = [number for number, entry in enumerate(found["bins"]) if entry["voxels"]]
    assert full == int(0.9 * CONFIDENCE_BINS)
    assert found["bins"][full] == {"confidence": 0.9, "accuracy": 0.6, "voxels": right.size}
    assert found["bins"][0] == {"confidence": None, "accuracy": None, "voxels": 0}
    # Right and wrong voxels look alike.
    assert found["error_auroc"] == 0.5


def test_cases_are_pooled_by_voxel():
    sure, unsure = (
        two_classes(c, np.full((10, n), True), (10, n)) for c, n in ((0.9, 1), (0.7, 3))
    )
    # Always right: the gap is 0.1 in a quarter of the voxels and 0.3 in the others.
    assert result(sure, unsure)["ece"] == pytest.approx(0.25 * 0.1 + 0.75 * 0.3, abs=1e-4)


def test_auroc_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(1)
    confidence = np.round(rng.uniform(0.5, 1, (30, 30)), 2)
    right = rng.random((30, 30)) < confidence
    found = result(two_classes(confidence, right, (30, 30)))
    # Entropy falls with the confidence. Of two decimals only 0.50 and 0.51 lie so close (2e-4)
    # that they may share a bin (1/4096) and count half: one pair in a thousand.
    low, high = confidence[~right][:, None], confidence[right][None]
    expected = (low < high).mean() + 0.5 * (low == high).mean()
    assert found["error_auroc"] == pytest.approx(expected, abs=2e-3)
    assert found["error_auroc"] > 0.6


def test_errors_that_all_look_unsure_are_found():
    right = np.arange(100).reshape(10, 10) < 70
    assert result(two_classes(np.where(right, 0.9, 0.6), right, (10, 10)))["error_auroc"] == 1.0
    assert result(two_classes(np.where(right, 0.6, 0.9), right, (10, 10)))["error_auroc"] == 0.0


def test_only_foreground_of_truth_or_prediction_counts():
    truth = np.array([[0, 0, 1, 1]], dtype=np.uint8)
    foreground = np.array([[0.2, 0.6, 0.3, 0.8]], dtype=np.float32)
    found = result((np.stack([1 - foreground, foreground]), truth))
    # Left out: the first voxel. Wrong: a false alarm at 0.6 and a miss at 0.7; right: 0.8.
    assert sum(entry["voxels"] for entry in found["bins"]) == 3
    assert found["ece"] == pytest.approx((0.6 + 0.7 + 0.2) / 3, abs=1e-4)
    assert found["error_auroc"] == 1.0


def test_nothing_to_count():
    nothing = np.stack([np.ones((4, 4)), np.zeros((4, 4))]).astype(np.float32)
    found = result((nothing, np.zeros((4, 4), np.uint8)))
    assert (found["ece"], found["error_auroc"]) == (None, None)
    assert result()["ece"] is None


def test_probabilities_that_are_none_quite():
    # As an algebraic unmixer leaves them: sums of 0.8, and the same shares.
    right = np.full((10, 10), True)
    probabilities, truth = two_classes(0.9, right, (10, 10))
    assert result((0.8 * probabilities, truth)) == result((probabilities, truth))


def test_other_grids_are_refused():
    with pytest.raises(GeometryMismatch, match="probabilities of shape"):
        Calibration().add(np.zeros((2, 3, 4), np.float32), np.zeros((4, 3), np.uint8))
