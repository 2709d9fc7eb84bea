"""``veilseg bench runtime``: the same networks, tiles and threads in one runtime after another."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from veilseg.bench.contenders import (
    RUNTIMES,
    TORCH,
    Contender,
    Make,
    NotRun,
    selftest_tile,
)
from veilseg.bench.record import record
from veilseg.bench.rounds import alternating, median, ratio, significant
from veilseg.bundle import ServerBundle
from veilseg.errors import VeilsegError
from veilseg.evaluation.bootstrap import bootstrap_difference
from veilseg.evaluation.dice import side_by_side
from veilseg.wire.tensors import FloatArray

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Accuracy:
    """Dice after recovery, case by case: of the same cases for every contender."""

    dice: Sequence[float]
    patients: Sequence[str]


Evaluate = Callable[[Contender], Accuracy]


def measure(
    bundles: Sequence[ServerBundle],
    threads: int,
    budget_s: float,
    evaluators: Mapping[str, Evaluate],
    progress: Progress,
    makers: Mapping[str, Make] = RUNTIMES,
) -> dict[str, Any]:
    """Time every runtime on every network, and compare their answers.

    Parameters
    ----------
    bundles : sequence of ServerBundle
    threads : int
        The same for all.
    budget_s : float
        For the timed rounds of one network.
    evaluators : mapping of str to callable
        By name of the bundle: gives the Dice of what a site recovers from a contender's answers.
        A bundle without one is not evaluated.
    progress : callable
        Called with (networks done, networks, name).
    makers : mapping of str to callable

    Returns
    -------
    dict
        JSON-ready. A contender that cannot take part says ``not run: reason``.
    """
    found = record("runtime", threads, {"budget_s": budget_s})
    networks = {}
    for number, bundle in enumerate(bundles):
        name = bundle.manifest.name
        progress(number, len(bundles), name)
        networks[name] = _network(bundle, threads, budget_s, evaluators.get(name), makers)
    progress(len(bundles), len(bundles), "")
    return {**found, "networks": networks}


def _network(
    bundle: ServerBundle,
    threads: int,
    budget_s: float,
    evaluate: Evaluate | None,
    makers: Mapping[str, Make],
) -> dict[str, Any]:
    tile = selftest_tile(bundle)
    contenders: dict[str, Contender] = {}
    rows: dict[str, dict[str, Any]] = {}
    for name, make in makers.items():
        rows[name] = {"status": "run"}
        try:
            contenders[name] = make(bundle, threads)
        except VeilsegError as error:
            rows[name] = {"status": f"not run: {error}"}
    if not contenders:
        raise NotRun(f"{bundle.folder}: no runtime takes it")
    # Kept for the comparison, and the first run of each is no measurement.
    answers = {name: contender(tile).copy() for name, contender in contenders.items()}
    base = TORCH if TORCH in contenders else next(iter(contenders))
    seconds = alternating({n: _timed(one, tile) for n, one in contenders.items()}, budget_s)
    accuracies = {} if evaluate is None else {n: evaluate(one) for n, one in contenders.items()}
    for name in contenders:
        rows[name] |= {
            "median_s": median(seconds[name]),
            "speedup": ratio(seconds[name], seconds[base]),
            "agreement": agreement(answers[base], answers[name]),
        }
        if name in accuracies:
            rows[name]["dice"] = _compared(accuracies[base], accuracies[name])
    return {
        "bundle_id": bundle.manifest.bundle_id,
        "tile": list(tile.shape),
        "n_rounds": len(seconds[base]),
        "compared_with": base,
        "runtimes": rows,
    }


def agreement(base: FloatArray, other: FloatArray) -> dict[str, float]:
    """How far two answers lie apart; the share of voxels of the same class, where there are any."""
    one, two = base[0].astype(np.float32), other[0].astype(np.float32)
    apart = np.abs(one - two)
    found = {"largest": significant(float(apart.max())), "mean": significant(float(apart.mean()))}
    if one.ndim > 1:
        found["same_class"] = float((one.argmax(axis=0) == two.argmax(axis=0)).mean())
    return found


def _timed(contender: Contender, tile: FloatArray) -> Callable[[], float]:
    def turn() -> float:
        begun = time.perf_counter()
        contender(tile)
        return time.perf_counter() - begun

    return turn


def _compared(base: Accuracy, other: Accuracy) -> dict[str, Any]:
    found = bootstrap_difference(*side_by_side(other.dice, base.dice), other.patients)
    return {
        "mean": round(float(np.nanmean(other.dice)), 5),
        "difference": round(found.mean, 5),
        "interval": [
            round(float(end), 5) if np.isfinite(end) else None for end in (found.low, found.high)
        ],
        "n_cases": found.cases,
        "n_patients": found.patients,
    }
