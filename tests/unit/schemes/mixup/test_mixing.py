"""z = a·x + (1 − a)·r, and the algebra that reverts it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veilseg.errors import GeometryMismatch
from veilseg.schemes.mixup.mixing import mix, unmix_algebraically
from veilseg.schemes.references import (
    LEAST_CONTRAST,
    Reference,
    contrast,
    synthetic_reference,
)


def one_hot(labels, classes):
    return np.stack([labels == value for value in range(classes)]).astype(np.float32)


@pytest.mark.parametrize("a", [0.2, 0.5, 0.9])
def test_mixture_is_the_formula_of_the_paper(template, make_case, a):
    patient = make_case(0).image
    reference = synthetic_reference(template, patient.shape[1:], np.random.default_rng(1))
    mixture, mixed = mix(patient, reference, a, np.random.default_rng(2))
    assert mixture.dtype == np.float32
    present = patient[0] > 0
    expected = a * patient + (1 - a) * mixed.image
    np.testing.assert_allclose(mixture[:, present], expected[:, present], atol=1e-6)
    np.testing.assert_array_equal(mixed.labels, reference.labels)


def test_no_voxel_shows_one_source_alone(template, make_case):
    patient = make_case(0).image
    reference = synthetic_reference(template, patient.shape[1:], np.random.default_rng(1))
    assert (patient == 0).any()
    assert (reference.image == 0).any()
    mixture, mixed = mix(patient, reference, 0.5, np.random.default_rng(2))
    assert (mixed.image > 0).all()
    hidden = mixture - np.float32(0.5) * mixed.image
    assert (hidden[patient == 0] > 0).all()


def test_mixed_reference_has_contrast(template, make_case):
    patient = make_case(0).image
    bland = Reference(
        (0.5 + 0.001 * np.random.default_rng(0).standard_normal(patient.shape)).astype(np.float32),
        np.zeros(patient.shape[1:], np.uint8),
    )
    _, mixed = mix(patient, bland, 0.5, np.random.default_rng(2))
    assert contrast(mixed.image) >= LEAST_CONTRAST * contrast(patient) - 1e-4


def test_same_generator_gives_the_same_mixture(template, make_case):
    patient = make_case(0).image
    reference = synthetic_reference(template, patient.shape[1:], np.random.default_rng(1))
    first, again, other = (
        mix(patient, reference, 0.5, np.random.default_rng(seed))[0].tobytes() for seed in (2, 2, 3)
    )
    assert first == again != other


def test_known_reference_gives_the_patient_away(template, make_case):
    # method.md §5: whoever knows r has x. Stated as a test, so that nobody claims otherwise.
    patient = make_case(0).image
    reference = synthetic_reference(template, patient.shape[1:], np.random.default_rng(1))
    mixture, mixed = mix(patient, reference, 0.3, np.random.default_rng(2))
    found = (mixture - np.float32(0.7) * mixed.image) / np.float32(0.3)
    present = patient > 0
    np.testing.assert_allclose(found[present], patient[present], atol=1e-5)


@given(st.floats(0.2, 0.9), st.integers(2, 6), st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_ideal_answer_is_reverted_to_the_truth(a, classes, seed):
    rng = np.random.default_rng(seed)
    truth, of_reference = rng.integers(0, classes, (2, 6, 5, 4))
    y, y_r = one_hot(truth, classes), one_hot(of_reference, classes)
    answer = np.float32(a) * y + np.float32(1 - a) * y_r
    found = unmix_algebraically(answer, y_r, a)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.argmax(axis=0), truth)
    # Rounding of the answer, 1e-7, is divided by a ≥ 0.2.
    np.testing.assert_allclose(found, y, atol=2e-6)


@given(st.floats(0.2, 0.9), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_any_answer_gives_probabilities(a, seed):
    rng = np.random.default_rng(seed)
    answer = rng.dirichlet([0.2] * 3, (5, 4)).transpose(2, 0, 1).astype(np.float32)
    y_r = one_hot(rng.integers(0, 3, (5, 4)), 3)
    found = unmix_algebraically(answer, y_r, a)
    assert found.min() >= 0
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)


def test_shapes_that_differ_are_refused(template):
    reference = synthetic_reference(template, (8, 8, 8), np.random.default_rng(0))
    with pytest.raises(GeometryMismatch, match=r"reference of shape \(1, 8, 8, 8\)"):
        mix(np.ones((1, 8, 8, 9), np.float32), reference, 0.5, np.random.default_rng(0))
    with pytest.raises(GeometryMismatch, match="answer of shape"):
        unmix_algebraically(np.ones((2, 4), np.float32), np.ones((3, 4), np.float32), 0.5)
