"""Bootstrap intervals: whole patients, paired cases, a seed."""

import numpy as np
import pytest

from veilseg.errors import InvalidInput
from veilseg.evaluation.bootstrap import bootstrap_difference, bootstrap_mean


def test_interval_agrees_with_the_normal_approximation():
    # 200 patients of one case: the bootstrap's standard error is s/√n, and ±1.96 of it is the
    # interval up to the percentile noise of 10 000 resamples (about 3 %) and mild skewness.
    values = np.random.default_rng(0).normal(0.8, 0.1, 200)
    interval = bootstrap_mean(values, [str(i) for i in range(200)])
    half = 1.96 * values.std() / np.sqrt(200)
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_patients_are_resampled_not_cases():
    # Ten copies of each patient's case teach nothing: the interval must not shrink.
    values = np.random.default_rng(1).random(20)
    patients = [str(i) for i in range(20)]
    once = bootstrap_mean(values, patients)
    copied = bootstrap_mean(np.repeat(values, 10), np.repeat(patients, 10))
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high))
    assert (copied.patients, copied.cases) == (20, 200)


def test_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    hits = 0
    for trial in range(200):
        patient_effects = rng.normal(0, 1, 30)
        values = np.repeat(patient_effects, 3) + rng.normal(0, 0.1, 90)
        interval = bootstrap_mean(values, np.repeat(np.arange(30), 3).astype(str), trial, 500)
        hits += interval.low <= 0 <= interval.high
    # Nominal 190; percentile intervals of 30 patients cover about 93 %. 4 sd of the count is 14.
    assert hits >= 186 - 14


def test_pairing_removes_what_both_share():
    rng = np.random.default_rng(3)
    shared = rng.normal(0, 1, 40)
    patients = [str(i) for i in range(40)]
    interval = bootstrap_difference(shared + 0.1 + rng.normal(0, 0.01, 40), shared, patients)
    assert 0.09 < interval.low < interval.mean < interval.high < 0.11


def test_folds_are_pooled_by_patient():
    # Five folds of one set: joined in any order, a patient of several cases stays one.
    rng = np.random.default_rng(4)
    patients = np.repeat([f"p{i}" for i in range(20)], 2)
    first, second = rng.random(40), rng.random(40)
    whole = bootstrap_difference(first, second, patients)
    order = np.concatenate([np.arange(fold, 40, 5) for fold in (3, 0, 4, 1, 2)])
    pooled = bootstrap_difference(first[order], second[order], patients[order])
    assert (pooled.patients, pooled.cases) == (20, 40)
    assert (pooled.mean, pooled.low, pooled.high) == pytest.approx(
        (whole.mean, whole.low, whole.high)
    )


def test_same_seed_same_interval():
    values = np.random.default_rng(0).random(20)
    patients = [str(i) for i in range(20)]
    assert bootstrap_mean(values, patients, seed=4) == bootstrap_mean(values, patients, seed=4)
    assert bootstrap_mean(values, patients, seed=4) != bootstrap_mean(values, patients, seed=5)


def test_undefined_values_are_left_out():
    interval = bootstrap_mean([0.5, float("nan"), 0.7], ["a", "b", "c"])
    assert (interval.mean, interval.patients, interval.cases) == (pytest.approx(0.6), 2, 2)
    paired = bootstrap_difference(
        [1.0, float("nan"), 3.0], [0.5, 1.0, float("nan")], ["a", "b", "c"]
    )
    assert (paired.mean, paired.cases) == (0.5, 1)


def test_one_patient_says_nothing_of_others():
    interval = bootstrap_mean([0.5, 0.7], ["a", "a"])
    assert interval.mean == pytest.approx(0.6)
    assert np.isnan([interval.low, interval.high]).all()


def test_bad_input_is_refused():
    with pytest.raises(InvalidInput, match="2 values for 1 patients"):
        bootstrap_mean([0.1, 0.2], ["a"])
    with pytest.raises(InvalidInput, match="no case has a value"):
        bootstrap_mean([float("nan")], ["a"])
    with pytest.raises(InvalidInput, match="2 of the first, 1 of the second"):
        bootstrap_difference([0.1, 0.2], [0.1], ["a", "b"])
