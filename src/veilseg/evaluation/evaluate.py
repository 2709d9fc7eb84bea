"""Accuracy of what a user gets: through the real halves, on the images' own grids."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from veilseg.bundle import ClientManifest
from veilseg.client.pipeline import protect, recover
from veilseg.client.processor import TileProcessor
from veilseg.datasets.cases import read_case, require_same_unit
from veilseg.datasets.layout import Case
from veilseg.evaluation.bootstrap import bootstrap_mean
from veilseg.evaluation.calibration import Calibration
from veilseg.evaluation.dice import dice_per_class, mean_foreground
from veilseg.evaluation.surface import DEFAULT_TOLERANCE_MM, hd95_mm, surface_dice
from veilseg.imaging.preprocessing import prepare_labels, restore
from veilseg.imaging.volume import Unit
from veilseg.scheme import ClientHalf

Progress = Callable[[int, int], None]


def evaluate(
    cases: Sequence[Case],
    manifest: ClientManifest,
    halves: Mapping[str, ClientHalf],
    processor: TileProcessor,
    progress: Progress,
    mixtures: int = 1,
) -> dict[str, Any]:
    """Segment labelled cases and compare with the truth.

    Parameters
    ----------
    cases : sequence of Case
    manifest : ClientManifest
    halves : mapping of str to ClientHalf
        Ways to recover by name, on one vault; the first is what a user gets by default and
        fills ``mean_dice``, ``per_class``, ``calibration`` and ``cases``.
    processor : TileProcessor
    progress : callable
    mixtures : int
        Proxies of each image whose results are averaged (test-time augmentation).

    Returns
    -------
    dict
        JSON-ready: scheme, mean_dice, interval, per_class, calibration, cases, variants, and
        the ``unit`` of all distances. A value that is not defined (a class that neither truth
        nor result has) is null. Calibration is measured on the bundle's grid, all else on the
        images' own.

    Raises
    ------
    WrongUsage
        If several mixtures are wanted of a scheme that does not mix.
    InvalidInput
        If a case cannot be used, or none has foreground in truth or result.
    """
    first = next(iter(halves))
    classes = len(manifest.labels)
    names = [label.name for label in manifest.labels if label.value]
    dice: dict[str, list[tuple[float, ...]]] = {name: [] for name in halves}
    hd95: list[tuple[float, ...]] = []
    nsd: list[tuple[float, ...]] = []
    units: list[Unit] = []
    calibration = Calibration()
    for index, case in enumerate(cases):
        _, truth = read_case(case, classes)
        require_same_unit(case, truth.geometry.unit, *units[:1])
        units.append(truth.geometry.unit)
        outgoing = [
            protect(case.images, case.patient, manifest, halves[first], number)
            for number in range(mixtures)
        ]
        restoration = outgoing[0].restoration
        recovered = recover(outgoing, manifest, list(halves.values()), processor, None)
        for name, probabilities in zip(halves, recovered.probabilities, strict=True):
            found = restore(probabilities, restoration)
            dice[name].append(dice_per_class(found.array, truth.array, classes))
            if name == first:
                compared = (found.array, truth.array, classes, truth.geometry.spacing_mm)
                hd95.append(hd95_mm(*compared))
                nsd.append(surface_dice(*compared))
                calibration.add(probabilities, prepare_labels(truth, restoration, classes))
        progress(index + 1, len(cases))
    per_case = {name: [mean_foreground(row) for row in rows] for name, rows in dice.items()}
    overall = bootstrap_mean(per_case[first], [case.patient for case in cases])
    return {
        "scheme": manifest.scheme,
        "bundle": manifest.name,
        "bundle_id": manifest.bundle_id,
        "mixtures": mixtures,
        "n_cases": overall.cases,
        "n_patients": overall.patients,
        "mean_dice": _number(overall.mean),
        "interval": [_number(overall.low), _number(overall.high)],
        "unit": units[0],
        "surface_tolerance_mm": DEFAULT_TOLERANCE_MM,
        "per_class": {
            name: {
                "dice": _mean([row[i] for row in dice[first]]),
                "hd95_mm": _mean([row[i] for row in hd95]),
                "nsd": _mean([row[i] for row in nsd]),
            }
            for i, name in enumerate(names)
        },
        "calibration": calibration.result(),
        "cases": [
            {
                "case": case.name,
                "patient": case.patient,
                "dice": {name: _number(dice[first][number][i]) for i, name in enumerate(names)},
                "hd95_mm": {name: _number(hd95[number][i]) for i, name in enumerate(names)},
                "nsd": {name: _number(nsd[number][i]) for i, name in enumerate(names)},
            }
            for number, case in enumerate(cases)
        ],
        "variants": {name: _mean(values) for name, values in per_case.items()},
    }


def _mean(values: Sequence[float]) -> float | None:
    finite = [value for value in values if np.isfinite(value)]
    return _number(float(np.mean(finite))) if finite else None


def _number(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
