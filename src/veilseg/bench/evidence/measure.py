"""One cell from training to figures, by the commands that users have."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from veilseg.audit.findings import CHANNELS
from veilseg.bench.evidence.cells import Cell, digest
from veilseg.bench.evidence.children import Note, prefixed, written
from veilseg.bench.evidence.costs import cost_of
from veilseg.bench.evidence.leakage import leakage
from veilseg.bench.evidence.means import averaged
from veilseg.bench.evidence.trained import Places, bundle_of, content_hash
from veilseg.bench.record import source_state
from veilseg.bundle import ClientManifest, open_client_half
from veilseg.evaluation.dice import mean_foreground
from veilseg.schemes.mixup.client import has_synthetic_references

Document = dict[str, Any]
# By which an evaluation has them.
METRICS = {"dice": "dice", "hd95": "hd95_mm", "nsd": "nsd"}


def measure(cell: Cell, places: Places, note: Note) -> Document:
    """A cell's figures and what it costs. Parameters and errors as :func:`figures`."""
    return figures(cell, places, note) | {"cost": cost_of(cell, places, note)}


def figures(cell: Cell, places: Places, note: Note) -> Document:
    """Train, evaluate and attack what a cell is of; what was done before is not done again.

    Parameters
    ----------
    cell : Cell
    places : Places
    note : callable
        Told what is being done, and how far it is.

    Returns
    -------
    dict
        JSON-ready.

    Raises
    ------
    VeilsegError
        Of the command that failed.
    """
    run, source = cell.run, places.data / cell.data.folder
    commit = source_state()  # before: it may take hours
    definition = cell.defined(content_hash(source))
    bundle = bundle_of(run, places, prefixed("training", note))
    manifest = open_client_half(bundle).manifest
    folder = places.cell_folder(cell.name, digest(definition))
    folder.mkdir(parents=True, exist_ok=True)
    labelled = manifest.scheme == "mixup" and not has_synthetic_references(manifest)
    options: list[str | Path] = ["--references", source] if labelled else []
    options += places.key_options(run)

    def found(name: str, *command: str | Path) -> Document:
        file = folder / f"{name}.json"
        return written(file, manifest.bundle_id, *command, note=prefixed(name, note))

    evaluation = found("evaluation", "evaluate", bundle, source, "--split", "test", *options)
    audit: Document = {"channels": {channel: [] for channel in CHANNELS}}
    if cell.effort != "none":
        how = ["--attacks", ",".join(cell.attacks), *(["--quick"] * (cell.effort == "quick"))]
        page = folder / "audit.html"
        audit = found("audit", "audit", bundle, source, "--html", page, *how, *options)
    return {
        "data": cell.data.name,
        "scheme": cell.scheme,
        "definition": definition,
        "digest": digest(definition),
        "commit": commit,
        "bundle_id": manifest.bundle_id,
        "trained": _training(cell, manifest),
        **accuracy(evaluation),
        "effort": cell.effort,
        "leakage": leakage(audit),
    }


def _training(cell: Cell, manifest: ClientManifest) -> Document:
    """What the bundle says of its training, and how many examples its networks have seen."""
    told, start = manifest.provenance, cell.run.start
    before = 0 if start is None else start.steps
    return {
        "steps": told["steps"],
        "steps_before": before,
        "batch": told["batch"],
        "examples": examples_seen(manifest.scheme, told["steps"], told["batch"], before),
        "commit": told.get("commit"),
    }


def examples_seen(scheme: str, steps: int, batch: int, before: int = 0) -> dict[str, int]:
    """By the part of the training: so many images each network was shown, one counted each time.

    Schemes with a discriminator take two images at least, for it compares them; an encoding's steps
    are shared by its networks, and its mapping network takes pairs in batches of its own.
    """
    if scheme == "encoding":
        from veilseg.schemes.encoding.training import AUTOENCODER_SHARE, MAPPING_SHARE

        first, second = (max(1, round(s * steps)) for s in (AUTOENCODER_SHARE, MAPPING_SHARE))
        last = max(1, steps - first - second)
        return {"autoencoders": first * batch, "mapping steps": second, "decoder": last * batch}
    if scheme in ("deformation", "privacy_net"):
        from veilseg.schemes.adversarial import SMALLEST_BATCH

        return {"segmenter": before * batch + steps * max(SMALLEST_BATCH, batch)}
    return {"segmenter": (before + steps) * batch}


def accuracy(evaluation: Mapping[str, Any]) -> Document:
    """Of an evaluation: each case by the mean over its classes, and means over cases."""
    cases = [
        {
            **{name: case[name] for name in ("case", "patient")},
            **{name: _over_classes(case[key]) for name, key in METRICS.items()},
        }
        for case in evaluation["cases"]
    ]
    return {
        "dataset": evaluation["dataset"],
        "data_sha256": evaluation["data_sha256"],
        "seed": evaluation["provenance"]["seed"],
        "references": evaluation["references"],
        "unit": evaluation["unit"],
        "surface_tolerance_mm": evaluation["surface_tolerance_mm"],
        "n_cases": evaluation["n_cases"],
        "n_patients": evaluation["n_patients"],
        "accuracy": {name: averaged(cases, name) for name in METRICS},
        "cases": cases,
    }


def _over_classes(values: Mapping[str, float | None]) -> float | None:
    found = mean_foreground([np.nan if value is None else value for value in values.values()])
    return round(found, 4) if np.isfinite(found) else None
