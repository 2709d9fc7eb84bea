"""What chance alone gives: intervals for null controls."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from veilseg.evaluation.bootstrap import Interval, bootstrap_mean

LEVEL = 0.999
PERMUTATIONS = 20_000
LABELLINGS = 5_000  # a statistic of ranks takes longer than a mean

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
    values: NDArray[np.float64],
    member: NDArray[np.bool_],
    patients: Sequence[str],
    statistic: Statistic,
    seed: int = 0,
) -> tuple[float, float]:
    """Where a statistic of two groups lies if which patient belongs to which is chance.

    Parameters
    ----------
    values, member : ndarray, shape (n,)
    patients : sequence of str
        Whose values they are; a patient is in one group.
    statistic : callable
        Of (values, boolean membership).

    Returns
    -------
    (low, high)
        99.9 % of random memberships, as many patients in each group as there are.
    """
    rng = np.random.default_rng(seed)
    _, owner = np.unique(np.asarray(patients), return_inverse=True)
    of_patient = np.zeros(owner.max() + 1, dtype=bool)
    of_patient[owner] = member
    found = [statistic(values, rng.permutation(of_patient)[owner]) for _ in range(LABELLINGS)]
    return _central(np.array(found))


def hit_interval(trials: int, chance: float) -> tuple[float, float]:
    """Where a hit rate lies if each of ``trials`` hits by ``chance``: 99.9 %, binomial."""
    low, high = binom.interval(LEVEL, trials, chance)
    return float(low / trials), float(high / trials)


def rate(hits: Sequence[float], patients: Sequence[str]) -> Interval:
    """A share of hits with its 95 % interval over patients.

    By the bootstrap; exact (Clopper and Pearson) where all or none hit, of which a bootstrap would
    be certain.
    """
    found = bootstrap_mean(hits, patients)
    if 0 < found.mean < 1:
        return found
    bound = 0.025 ** (1 / found.patients)
    low, high = (bound, 1.0) if found.mean == 1 else (0.0, 1 - bound)
    return replace(found, low=low, high=high)


def _central(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(values, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)
