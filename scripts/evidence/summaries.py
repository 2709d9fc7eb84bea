"""Comparisons over several evaluations: margins, the curve, averaged mixtures, pooled folds."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from evidence.jobs import (
    BRAIN,
    COEFFICIENTS,
    FOLDS,
    HIPPOCAMPUS,
    MOST_MIXTURES,
    PICTURES,
    curve_name,
    fold_stem,
    mixtures_name,
)
from evidence.places import Places, Result
from veilseg.evaluation.bootstrap import Interval, bootstrap_difference, bootstrap_mean
from veilseg.evaluation.dice import mean_foreground, side_by_side

Load = Callable[[str], Result | None]
Case = dict[str, Any]

POOLED = "brain-tissue-folds"  # the comparison; its cases are in results/brain-tissue.json
# What is compared, each with the schemes that were trained for it.
MARGINS = {
    HIPPOCAMPUS.name: ("plain", "mixup", "algebraic"),
    BRAIN.name: ("plain", "mixup", "algebraic", "longer"),
    **{data.name: ("plain", "mixup", "longer") for data in PICTURES},
}


def summarise(places: Places, evaluation: Load) -> None:
    """Write every summary whose sources are complete.

    Parameters
    ----------
    evaluation : callable
        Gives an evaluation of the work folder by name, or None.
    """
    for name, make in {"curve": curve, "mixtures": mixtures, BRAIN.name: pooled_folds}.items():
        found = make(evaluation)
        if found is not None:
            places.store(name, found)
    found = margins(places.load)
    if found["comparisons"]:
        places.store("margins", found)
        time = training_time(found, evaluation)
        if time is not None:
            places.store("training-time", time)


def margins(load: Load) -> Result:
    """Private − plain and learned − algebraic for every data set that was measured."""
    cases: dict[str, list[Case]] = {}
    comparisons: dict[str, Result] = {}
    for name, schemes in MARGINS.items():
        results = {scheme: load(f"{name}-{scheme}") for scheme in schemes}
        there = {scheme: result for scheme, result in results.items() if result is not None}
        if "plain" in there and "mixup" in there:
            cases[name] = joined(there)
            comparisons[name] = {**compared(cases[name]), **origin(there)}
    folds = load(BRAIN.name)
    if folds is not None:
        cases[POOLED] = folds["cases"]
        comparisons[POOLED] = {
            name: folds[name] for name in folds if name not in ("cases", "commit")
        }
    trained_for_itself = [
        {**case, "patient": f"{name} {case['patient']}"}
        for name, those in cases.items()
        for case in those
        if "algebraic" in case
    ]
    # Of one data set alone the pool would be that set under a larger name.
    several = len({case["patient"].split()[0] for case in trained_for_itself}) > 1
    pooled = gain(trained_for_itself) if several else None
    return {"comparisons": comparisons, "pooled_gain": pooled}


def training_time(found: Result, load: Load) -> Result | None:
    """How long the private hippocampus network was trained, and how far from plain it ends."""
    name = f"{HIPPOCAMPUS.name}-mixup"
    result, compared_to_plain = load(name), found["comparisons"].get(HIPPOCAMPUS.name)
    if result is None or compared_to_plain is None or not result.get("training"):
        return None
    sources = origin({"mixup": result})
    return {**result["training"], "margin": compared_to_plain["margin"], **sources}


def pooled_folds(load: Load) -> Result | None:
    """Every person of the brain data set, each tested by the networks that have not seen them."""
    together: list[Case] = []
    origins: dict[str, Result] = {}
    for fold in range(1, FOLDS + 1):
        names = {s: f"{fold_stem(BRAIN, fold)}-{s}" for s in ("plain", "mixup")}
        results = {scheme: load(name) for scheme, name in names.items()}
        there = {scheme: result for scheme, result in results.items() if result is not None}
        if len(there) < len(names):
            return None
        together += joined(there)
        origins |= {f"fold {fold} {scheme}": there[scheme] for scheme in there}
    return {**compared(together), **origin(origins), "folds": FOLDS, "cases": together}


def curve(load: Load) -> Result | None:
    """Dice over the mixing coefficient, with learned and with algebraic unmixing."""
    plain = load(f"{HIPPOCAMPUS.name}-plain")
    kinds = ("learned", "algebraic")
    found = {(kind, a): load(curve_name(kind, a)) for kind in kinds for a in COEFFICIENTS}
    there = {key: result for key, result in found.items() if result is not None}
    if plain is None or len(there) < len(found):
        return None
    points = []
    for a in COEFFICIENTS:
        cases = joined({kind: there[kind, a] for kind in kinds})
        points.append(
            {
                "coefficient": a,
                **{kind: mean(cases, kind) for kind in kinds},
                "gain": difference(cases, *kinds),
            }
        )
    sources = {"plain": plain, **{kind: there[kind, COEFFICIENTS[0]] for kind in kinds}}
    line = joined({"plain": plain})
    return {"points": points, "plain": mean(line, "plain"), **origin(sources)}


def mixtures(load: Load) -> Result | None:
    """Dice over the number of mixtures averaged (test-time augmentation)."""
    found = [load(mixtures_name(count)) for count in range(1, MOST_MIXTURES + 1)]
    there = [result for result in found if result is not None]
    if len(there) < len(found):
        return None
    points = []
    for count, result in enumerate(there, start=1):
        cases = joined({"one": there[0], "several": result})
        points.append(
            {
                "mixtures": count,
                "learned": mean(cases, "several"),
                "gain": difference(cases, "several", "one"),
            }
        )
    return {"points": points, **origin({"mixup": there[0]})}


def joined(results: Mapping[str, Result]) -> list[Case]:
    """One entry per case: its patient and the mean foreground Dice of each scheme.

    Raises
    ------
    ValueError
        If the schemes were evaluated on different cases.
    """
    first = next(iter(results.values()))
    cases: list[Case] = [
        {name: case[name] for name in ("case", "patient")} for case in first["cases"]
    ]
    for scheme, result in results.items():
        if [case["case"] for case in result["cases"]] != [case["case"] for case in cases]:
            raise ValueError(f"{scheme}: evaluated on other cases than {next(iter(results))}")
        for entry, case in zip(cases, result["cases"], strict=True):
            values = [math.nan if value is None else value for value in case["dice"].values()]
            entry[scheme] = _number(mean_foreground(values), digits=6)
    return cases


def compared(cases: Sequence[Case]) -> Result:
    """Means, private − plain, and what the others that are there are compared with."""
    schemes = [name for name in ("plain", "mixup", "algebraic", "longer") if name in cases[0]]
    found: Result = {scheme: mean(cases, scheme) for scheme in schemes}
    found["margin"] = difference(cases, "mixup", "plain")
    found["paired"] = paired(cases, "plain", "mixup")
    if "algebraic" in schemes:
        found["gain"] = gain(cases)
    if "longer" in schemes:
        found["more_steps"] = difference(cases, "longer", "plain")
        found["paired_longer"] = paired(cases, "plain", "longer")
        found["margin_to_longer"] = difference(cases, "mixup", "longer")
    return found


def gain(cases: Sequence[Case]) -> Result:
    """Learned − algebraic, each trained for itself."""
    return difference(cases, "mixup", "algebraic")


def origin(results: Mapping[str, Result]) -> Result:
    """What a summary was made of: data, and by name bundle, steps, seed and commit."""
    first = next(iter(results.values()))
    if len({result["data_sha256"] for result in results.values()}) > 1:
        raise ValueError(f"{', '.join(results)}: evaluated on different data")
    return {
        "dataset": first["dataset"],
        "data_sha256": first["data_sha256"],
        "sources": {
            name: {
                "bundle_id": result["bundle_id"],
                "steps": result["provenance"]["steps"],
                "seed": result["provenance"]["seed"],
                "references": result["references"],
                "commit": result["commit"],
            }
            for name, result in results.items()
        },
    }


def mean(cases: Sequence[Case], scheme: str) -> Result:
    """Mean Dice of a scheme with its interval over patients."""
    found = bootstrap_mean(_scores(cases, scheme), [case["patient"] for case in cases])
    return {"dice": _number(found.mean), **_interval(found)}


def difference(cases: Sequence[Case], first: str, second: str) -> Result:
    """Mean difference of two schemes, paired by case, with its interval over patients."""
    one, other = side_by_side(*(_scores(cases, scheme) for scheme in (first, second)))
    found = bootstrap_difference(one, other, [case["patient"] for case in cases])
    return {"difference": _number(found.mean), **_interval(found)}


def paired(cases: Sequence[Case], *schemes: str) -> dict[str, float | None]:
    """Mean Dice of two schemes over the images of their difference, and by its rule."""
    both = np.array(side_by_side(*(_scores(cases, scheme) for scheme in schemes)))
    means = both[:, ~np.isnan(both).any(axis=0)].mean(axis=1)
    return {scheme: _number(float(value)) for scheme, value in zip(schemes, means, strict=True)}


def _interval(found: Interval) -> Result:
    return {
        "interval": [_number(found.low), _number(found.high)],
        "n_cases": found.cases,
        "n_patients": found.patients,
    }


def _scores(cases: Sequence[Case], scheme: str) -> list[float]:
    return [math.nan if case[scheme] is None else case[scheme] for case in cases]


def _number(value: float, digits: int = 4) -> float | None:
    return round(value, digits) if math.isfinite(value) else None
