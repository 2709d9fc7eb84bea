"""What chance alone gives: intervals for null controls."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

LEVEL = 0.999
PERMUTATIONS = 20_000

Statistic = Callable[[NDArray[np.float64], NDArray[np.bool_]], float]


def permutation_interval(scores: NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """Where the mean score of aligned pairs lies if nothing ties them together.

    Parameters
    ----------
    scores : ndarray, shape (n, m), n ≤ m
        Of every output to every truth. Aligned pairs are the diagonal; under the null hypothesis
        any other pairing is as likely.
    seed : int

    Returns
    -------
    (low, high)
        99.9 % of random pairings.
    """
    rng = np.random.default_rng(seed)
    outputs, truths = scores.shape
    rows = np.arange(outputs)
    means = np.array(
        [scores[rows, rng.permutation(truths)[:outputs]].mean() for _ in range(PERMUTATIONS)]
    )
    return _central(means)


def label_interval(
    values: NDArray[np.float64], positives: int, statistic: Statistic, seed: int = 0
) -> tuple[float, float]:
    """Where a statistic of two groups lies if who belongs to which is chance.

    Parameters
    ----------
    values : ndarray, shape (n,)
    positives : int
        How many are in the first group.
    statistic : callable
        Of (values, boolean membership).

    Returns
    -------
    (low, high)
        99.9 % of random memberships.
    """
    rng = np.random.default_rng(seed)
    member = np.arange(len(values)) < positives
    found = [statistic(values, rng.permutation(member)) for _ in range(PERMUTATIONS)]
    return _central(np.array(found))


def hit_interval(trials: int, chance: float) -> tuple[float, float]:
    """Where a hit rate lies if each of ``trials`` hits by ``chance``: 99.9 %, binomial."""
    low, high = binom.interval(LEVEL, trials, chance)
    return float(low / trials), float(high / trials)


def _central(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(values, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)
