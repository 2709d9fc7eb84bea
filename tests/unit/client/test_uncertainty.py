"""Entropy of class probabilities, and what is made of those that are none quite."""

import numpy as np
import pytest

from veilseg.client.uncertainty import distribution, predictive_entropy


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2)])
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_certain_is_nothing_and_undecided_is_one(classes: int, shape: tuple[int, ...]):
    certain = np.zeros((classes, *shape), dtype=np.float32)
    certain[1] = 1
    alike = np.full((classes, *shape), 1 / classes, dtype=np.float32)
    entropy = predictive_entropy(certain)
    assert (entropy.dtype, entropy.shape) == (np.float32, shape)
    np.testing.assert_array_equal(entropy, 0)
    np.testing.assert_allclose(predictive_entropy(alike), 1, atol=1e-6)
    assert predictive_entropy(alike).max() <= 1


def test_closed_form():
    # Two of four classes alike: log 2 of log 4.
    half = np.array([0.5, 0.5, 0, 0], dtype=np.float32)
    assert predictive_entropy(half) == pytest.approx(0.5)
    three = np.array([0.7, 0.2, 0.1], dtype=np.float32)
    expected = -sum(p * np.log(p) for p in (0.7, 0.2, 0.1)) / np.log(3)
    assert predictive_entropy(three) == pytest.approx(expected, abs=1e-6)


def test_what_does_not_sum_to_one_is_scaled():
    shares = np.array([[0.2, 0.4, 0.2], [0.6, 1.2, -0.1]], dtype=np.float32)
    expected = [[0.25, 0.25, 1], [0.75, 0.75, 0]]
    np.testing.assert_allclose(distribution(shares), expected, atol=1e-6)
    assert distribution(shares).dtype == np.float32


def test_nothing_known_is_undecided_not_certain():
    np.testing.assert_array_equal(predictive_entropy(np.zeros((2, 5), dtype=np.float32)), 1)
