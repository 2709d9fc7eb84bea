"""Contenders by turns, and how they compare: medians, and ratios within each round."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import numpy as np

from veilseg.evaluation.bootstrap import LEVEL, RESAMPLES

# Of a budget that is too small: a median of fewer says nothing.
FEWEST_ROUNDS: Final = 3
# Threads of the contender before spin for some milliseconds after their work is done.
CALM_S: Final = 0.05

Taken = TypeVar("Taken")


def alternating(
    contenders: Mapping[str, Callable[[], Taken]],
    budget_s: float,
    *,
    fewest: int = FEWEST_ROUNDS,
    pause_s: float = CALM_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, list[Taken]]:
    """What contenders give, one after the other in each round, in turned order every other round.

    Whatever slows the machine down for a while so meets all of them, and whoever comes second
    finds the same caches as the one before.

    Parameters
    ----------
    contenders : mapping of str to callable
    budget_s : float
        No round begins after it.
    fewest : int
        Rounds, however small the budget.
    pause_s : float
        Before each turn.

    Returns
    -------
    dict of str to list
        Of the same length for each.
    """
    taken: dict[str, list[Taken]] = {name: [] for name in contenders}
    begun, number = clock(), 0
    while number < fewest or clock() - begun < budget_s:
        for name in contenders if number % 2 == 0 else reversed(list(contenders)):
            sleep(pause_s)
            taken[name].append(contenders[name]())
        number += 1
    return taken


def ratio(base: Sequence[float], other: Sequence[float], seed: int = 0) -> dict[str, Any]:
    """Median of other ÷ base over the pairs, with its 95 % percentile bootstrap interval."""
    ratios = np.asarray(other) / np.asarray(base)
    rng = np.random.default_rng(seed)
    drawn = rng.choice(ratios, size=(RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(drawn, axis=1), [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return {
        "median": round(float(np.median(ratios)), 4),
        "interval": [round(float(low), 4), round(float(high), 4)],
        "each": [round(float(value), 4) for value in ratios],
    }


def median(values: Sequence[float]) -> float:
    """To four digits that count, whatever the unit."""
    return significant(statistics.median(values))


def significant(value: float) -> float:
    """A number as it is written down: to four digits that count."""
    return float(f"{value:.4g}")


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
