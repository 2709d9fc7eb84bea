"""One cell from training to figures, by the commands that users have."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from veilseg.audit.findings import CHANNELS
from veilseg.bench.evidence.cells import TIMED_IMAGES, Cell, digest
from veilseg.bench.evidence.children import Note, veilseg
from veilseg.bench.evidence.leakage import leakage
from veilseg.bench.evidence.means import averaged
from veilseg.bench.evidence.operations import of_bundle
from veilseg.bench.evidence.trained import Places, bundle_of, content_hash
from veilseg.bench.record import source_state
from veilseg.bench.rounds import ratio
from veilseg.bundle import ClientManifest, open_client_half
from veilseg.datasets.layout import read_dataset
from veilseg.evaluation.dice import mean_foreground
from veilseg.schemes.mixup.client import has_synthetic_references

Document = dict[str, Any]
# By which an evaluation has them.
METRICS = {"dice": "dice", "hd95": "hd95_mm", "nsd": "nsd"}


def measure(cell: Cell, places: Places, note: Note) -> Document:
    """Train, evaluate, attack and time what a cell is of; what was done before is not done again.

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
    bundle = bundle_of(run, places, _prefixed("training", note))
    manifest = open_client_half(bundle).manifest
    folder = places.cell_folder(cell.name, digest(definition))
    folder.mkdir(parents=True, exist_ok=True)
    labelled = manifest.scheme == "mixup" and not has_synthetic_references(manifest)
    options: list[str | Path] = ["--references", source] if labelled else []
    options += places.key_options(run)

    def found(name: str, *command: str | Path) -> Document:
        file = folder / f"{name}.json"
        return _found(file, manifest.bundle_id, *command, note=_prefixed(name, note))

    evaluation = found("evaluation", "evaluate", bundle, source, "--split", "test", *options)
    audit: Document = {"channels": {channel: [] for channel in CHANNELS}}
    if cell.effort != "none":
        how = ["--attacks", ",".join(cell.attacks), *(["--quick"] * (cell.effort == "quick"))]
        page = folder / "audit.html"
        audit = found("audit", "audit", bundle, source, "--html", page, *how, *options)
    beside: list[Path] = []
    if cell.beside is not None:
        beside = [bundle_of(cell.beside, places, _prefixed("training what it is beside", note))]
    images = str(max(1, min(TIMED_IMAGES, len(read_dataset(source).cases) - 1)))
    timing: list[str | Path] = ["bench", "site", *beside, bundle, "--dataset", source]
    timed = found("timing", *timing, "--budget-images", images, *places.key_options(run))
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
        "cost": cost(timed, manifest.bundle_id) | {"multiply_adds": of_bundle(bundle)},
    }


def _prefixed(what: str, note: Note) -> Note:
    return lambda told: note(f"{what} {told}")


def _found(file: Path, bundle_id: str, *command: str | Path, note: Note) -> Document:
    """What a command writes about a bundle; read where it was written before."""
    if file.is_file():
        old: Document = json.loads(file.read_text(encoding="utf-8"))
        timed = old.get("bundles", {}).values()
        if bundle_id in (old.get("bundle_id"), *(one["bundle_id"] for one in timed)):
            return old
    note("begins")
    veilseg(*command, "--json", file, note=note)
    made: Document = json.loads(file.read_text(encoding="utf-8"))
    return made


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


def cost(timed: Mapping[str, Any], bundle_id: str) -> Document:
    """Seconds and bytes of one image, and how plain did by turns in the same run."""
    arms = {one["bundle_id"] == bundle_id: one for one in timed["bundles"].values()}
    own, plain = arms[True], arms.get(False)
    return {
        "seconds": _seconds(own),
        "plain_seconds": None if plain is None else _seconds(plain),
        "ratio": None if plain is None else _ratio(plain["total_ms"], own["total_ms"]),
        "bytes": {name: own["mean_image"][name] for name in ("sent", "received")},
        "tiles": own["mean_image"]["tiles"],
        "n_images": timed["n_images"],
        "machine": timed["machine"],
    }


def _seconds(arm: Mapping[str, Any]) -> dict[str, float]:
    """The site waits while the server works: what is left of the whole is its own time."""
    each = {name: value / 1000 for name, value in arm["milliseconds"].items()}
    server, total = each["wait"], each["total"]
    parts = {"site": total - server, "server": server, "total": total}
    return {name: round(seconds, 4) for name, seconds in parts.items()}


def _ratio(plain: list[float], own: list[float]) -> Document:
    found = ratio(plain, own)
    return {name: found[name] for name in ("median", "interval")}
