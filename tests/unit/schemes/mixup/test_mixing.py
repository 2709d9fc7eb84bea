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
    assert (contrast(mixed.image) >= LEAST_CONTRAST * contrast(patient) - 1e-4).all()


def adversarial_images():
    """Flat, saturated, nearly flat, black and white, one bright voxel; one to three channels."""

    def build(seed, kind, channels, share):
        rng = np.random.default_rng(seed)
        shape = (channels, 12, 10, 8)
        image = {
            "flat": np.full(shape, 0.5),
            "saturated": np.where(rng.random(shape) < 0.95, 1, 0.4),
            "bland": 0.5 + 0.001 * rng.standard_normal(shape),
            "binary": np.round(rng.random(shape)),
            "spot": np.where(np.arange(np.prod(shape)).reshape(shape) == 7, 1, 0.1),
            "noise": rng.random(shape),
        }[kind]
        present = rng.random(shape[1:]) < share
        present[:2, 0, 0] = True
        return np.where(present, image.clip(0.001, 1), 0).astype(np.float32)

    kinds = st.sampled_from(["flat", "saturated", "bland", "binary", "spot", "noise"])
    return lambda channels: st.builds(
        build, st.integers(0, 2**32 - 1), kinds, st.just(channels), st.floats(0.02, 1)
    )


@given(
    st.integers(1, 3).flatmap(lambda c: st.tuples(*[adversarial_images()(c)] * 2)),
    st.floats(0.1, 0.9),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_whatever_is_mixed_the_reference_has_four_fifths_of_the_contrast(images, a):
    patient, other = images
    tissue = (other > 0).any(axis=0)
    reference = Reference(other, np.zeros(tissue.shape, np.uint8))
    mixture, mixed = mix(patient, reference, a, np.random.default_rng(0))
    reached = np.array([channel[tissue].std() for channel in mixed.image])
    # An odd number of voxels has no equal halves: black and white then have √(1 − 1/n²)/2, and
    # SMALLEST_PRESENT is not quite black.
    most = 0.5 * np.sqrt(1 - (tissue.sum() % 2) / tissue.sum() ** 2) * 0.999
    assert (reached >= np.minimum(LEAST_CONTRAST * contrast(patient) - 1e-4, most)).all()
    assert np.isfinite(mixture).all()
    assert mixture.min() > 0
    assert mixture.max() <= 1 + 1e-6


def test_the_two_fills_are_independent():
    """What is known of the patient's fill does not help to subtract the reference's."""
    shape, a, seeds = (1, 48, 48, 48), 0.5, 10
    patient = np.zeros(shape, np.float32)
    patient[:, 20:24, 20:24, 20:24] = 0.5
    found = []
    for seed in range(seeds):
        other = Reference(patient.copy(), np.zeros(shape[1:], np.uint8))
        mixture, mixed = mix(patient, other, a, np.random.default_rng(seed))
        fill = (mixture - (1 - a) * mixed.image) / a
        both_empty = patient == 0
        found.append(np.corrcoef(fill[both_empty], mixed.image[both_empty])[0, 1])
    # As derived in test_fills_are_independent of the references.
    error = np.sqrt(1.1 * 0.25 * (4 * 70 / 36) ** 3 / 48**3)
    assert np.abs(found).max() < 4 * error
    assert np.mean(found) == pytest.approx(0, abs=4 * error / np.sqrt(seeds))


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
