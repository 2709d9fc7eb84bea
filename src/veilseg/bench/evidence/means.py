"""Means over cases and seeds, with intervals that draw patients anew."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from veilseg.errors import InvalidInput
from veilseg.evaluation.bootstrap import Interval, bootstrap_difference, bootstrap_mean
from veilseg.evaluation.dice import side_by_side

Document = dict[str, Any]
Case = Mapping[str, Any]


def averaged(cases: Sequence[Case], name: str) -> Document:
    """The mean of what is defined, with its interval over patients."""
    values = _values(cases, name)
    if not np.isfinite(values).any():
        return {"value": None, "interval": [None, None], "n_cases": 0, "n_patients": 0}
    return interval(bootstrap_mean(values, [case["patient"] for case in cases]))


def interval(found: Interval) -> Document:
    """For JSON."""
    ends = (found.low, found.high)
    return {
        "value": round(found.mean, 4),
        "interval": [round(end, 4) if np.isfinite(end) else None for end in ends],
        "n_cases": found.cases,
        "n_patients": found.patients,
    }


def over_seeds(cells: Sequence[Document], name: str) -> list[Document]:
    """Each case once, by the mean over cells of several seeds; None where one has no value.

    Raises
    ------
    InvalidInput
        If the cells were measured on different cases.
    """
    first = [case["case"] for case in cells[0]["cases"]]
    if any([case["case"] for case in cell["cases"]] != first for cell in cells):
        raise InvalidInput("cells of one scheme were measured on different cases")
    joined = []
    for those in zip(*(cell["cases"] for cell in cells), strict=True):
        values = [case[name] for case in those]
        mean = None if None in values else float(np.mean(values))
        joined.append({"case": those[0]["case"], "patient": those[0]["patient"], name: mean})
    return joined


def difference_of_dice(first: Sequence[Case], second: Sequence[Case]) -> Document:
    """Mean of first − second, paired by case.

    Raises
    ------
    InvalidInput
        If they were measured on different cases.
    """
    if [case["case"] for case in first] != [case["case"] for case in second]:
        raise InvalidInput("schemes were measured on different cases")
    return interval(
        bootstrap_difference(
            *side_by_side(_values(first, "dice"), _values(second, "dice")),
            [case["patient"] for case in first],
        )
    )


def _values(cases: Sequence[Case], name: str) -> list[float]:
    return [np.nan if case[name] is None else float(case[name]) for case in cases]
