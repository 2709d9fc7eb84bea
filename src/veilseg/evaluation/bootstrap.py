"""How sure a mean is: intervals that resample patients, since scans of one person are no two."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veilseg.errors import InvalidInput

RESAMPLES = 10_000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean over cases with its percentile bootstrap interval.

    Attributes
    ----------
    mean, low, high : float
        The bounds are NaN for fewer than two patients: nothing is known of others then.
    patients, cases : int
        How many entered; cases without a value (NaN) do not.
    """

    mean: float
    low: float
    high: float
    patients: int
    cases: int


def bootstrap_mean(
    values: Sequence[float],
    patients: Sequence[str],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Interval of the mean over cases, with patients drawn anew, each with all their cases.

    Parameters
    ----------
    values : sequence of float
        One per case; NaN is left out.
    patients : sequence of str
        Whose case it is.
    seed, resamples : int

    Returns
    -------
    Interval
        95 %.

    Raises
    ------
    InvalidInput
        If values and patients differ in number, or no value is defined.
    """
    return _interval(np.asarray(values, dtype=np.float64), patients, seed, resamples)


def bootstrap_difference(
    first: Sequence[float],
    second: Sequence[float],
    patients: Sequence[str],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Interval of the mean of ``first − second``, paired by case, with patients drawn anew.

    Cases of several folds or data sets are pooled by joining their lists; people of different
    data sets need different names. A case that has no value on one side is left out. Parameters
    and errors as for :func:`bootstrap_mean`.
    """
    if len(first) != len(second):
        raise InvalidInput(f"paired values: {len(first)} of the first, {len(second)} of the second")
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    return _interval(difference, patients, seed, resamples)


def _interval(
    values: NDArray[np.float64], patients: Sequence[str], seed: int, resamples: int
) -> Interval:
    if len(values) != len(patients):
        raise InvalidInput(f"bootstrap: {len(values)} values for {len(patients)} patients")
    defined = ~np.isnan(values)
    if not defined.any():
        raise InvalidInput("bootstrap: no case has a value")
    values = values[defined]
    names, owner = np.unique(np.asarray(patients, dtype=str)[defined], return_inverse=True)
    sums = np.bincount(owner, values)
    sizes = np.bincount(owner)
    mean = float(values.mean())
    if len(names) < 2:
        return Interval(mean, float("nan"), float("nan"), len(names), len(values))
    # How often each patient is drawn is multinomial: no list of draws is needed.
    times = np.random.default_rng(seed).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=resamples
    )
    means = (times @ sums) / (times @ sizes)
    low, high = np.percentile(means, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return Interval(mean, float(low), float(high), len(names), len(values))
