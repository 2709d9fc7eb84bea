"""Dice equals MONAI's, and its rules for empty classes are kept."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import DiceMetric, compute_dice

from veilseg.errors import GeometryMismatch
from veilseg.evaluation.dice import dice_per_class, mean_foreground, side_by_side


def one_hot(labels, classes):
    return torch.from_numpy(np.stack([labels == value for value in range(classes)])[None])


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.sampled_from([(4, 5), (3, 4, 2)]))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_equals_monai_wherever_the_class_is_in_either_map(seed, classes, shape):
    rng = np.random.default_rng(seed)
    # Often empty, since few labels are drawn from many.
    predicted, truth = (rng.choice(rng.integers(0, classes, 2), shape) for _ in range(2))
    expected = compute_dice(
        one_hot(predicted, classes),
        one_hot(truth, classes),
        include_background=False,
        ignore_empty=False,
    )[0].numpy()
    for value, (found, wanted) in enumerate(
        zip(dice_per_class(predicted, truth, classes), expected, strict=True), start=1
    ):
        if (predicted == value).any() or (truth == value).any():
            assert found == pytest.approx(wanted, abs=1e-6)
        else:
            assert np.isnan(found)


def test_differs_from_ignore_empty_in_false_alarms_only():
    """MONAI's ``DiceMetric(ignore_empty=True)`` leaves a false alarm in an empty truth out."""
    truth = np.array([[0, 0, 1, 1], [0, 0, 2, 2]], np.uint8)
    predicted = np.array([[0, 2, 1, 0], [0, 0, 2, 0]], np.uint8)
    metric = DiceMetric(include_background=False, reduction="none", ignore_empty=True)
    for found, wanted in zip(predicted, truth, strict=True):
        metric(one_hot(found, 4), one_hot(wanted, 4))
    theirs = metric.aggregate().numpy()
    ours = np.array([dice_per_class(*both, 4) for both in zip(predicted, truth, strict=True)])
    false_alarm = np.isnan(theirs) & ~np.isnan(ours)
    assert ours[false_alarm].tolist() == [0.0]
    np.testing.assert_allclose(ours[~false_alarm], theirs[~false_alarm], atol=1e-6)
    assert np.isnan(ours).sum() == 3


def test_closed_form():
    truth, predicted = np.zeros((2, 10), np.uint8)
    truth[:6] = 1
    predicted[3:7] = 1
    assert dice_per_class(predicted, truth, 2) == (2 * 3 / (6 + 4),)


def test_false_alarm_scores_zero_and_absent_class_is_left_out():
    truth = np.array([0, 0, 1, 1], np.uint8)
    predicted = np.array([0, 2, 1, 1], np.uint8)
    scores = dice_per_class(predicted, truth, 4)
    assert scores[:2] == (1.0, 0.0)
    assert np.isnan(scores[2])
    assert mean_foreground(scores) == 0.5


def test_mean_of_nothing_is_nan():
    assert np.isnan(mean_foreground([float("nan")]))
    assert np.isnan(mean_foreground([]))


def test_different_shapes_are_refused():
    with pytest.raises(GeometryMismatch, match="predicted labels of shape"):
        dice_per_class(np.zeros((2, 3), int), np.zeros((3, 2), int), 2)


def test_evaluation_is_imported_without_torch():
    code = (
        "import sys; import veilseg.evaluation.dice, veilseg.evaluation.bootstrap,"
        "veilseg.evaluation.surface, veilseg.evaluation.calibration, veilseg.imaging.tiling;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_what_one_of_two_rightly_leaves_empty_counts_as_1_for_it():
    nan = float("nan")
    first, second = side_by_side([0.5, nan, 0.25, nan], [nan, 0.0, 0.75, nan])
    assert (first[:3], second[:3]) == ([0.5, 1, 0.25], [1, 0, 0.75])
    # Of what both leave empty nothing is to be compared.
    assert np.isnan([first[3], second[3]]).all()
