"""Where data, work, results and documents lie, and how results are kept."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from veilseg.bench.record import source_state
from veilseg.files import write_text_whole

Result = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Places:
    """Folders of a measurement.

    Attributes
    ----------
    root : Path
        The project, with ``results/``, ``models/`` and documents.
    data : Path
        Data sets, never written to.
    work : Path
        Trainings and evaluations under way; what stays there is not measured again.
    """

    root: Path
    data: Path
    work: Path

    @property
    def results(self) -> Path:
        """Published results, one JSON file each."""
        return self.root / "results"

    @property
    def models(self) -> Path:
        """Shipped bundles."""
        return self.root / "models"

    @property
    def images(self) -> Path:
        """Plots of docs/accuracy.md."""
        return self.root / "docs" / "images"

    def bundle(self, name: str) -> Path:
        """Where a training writes its bundle."""
        return self.work / name

    def evaluation(self, name: str) -> Path:
        """Where an evaluation is kept until it is published."""
        return self.work / "evaluations" / f"{name}.json"

    def part(self, name: str) -> Path:
        """Where an evaluation is published that is told of in summaries alone."""
        return self.results / "parts" / f"{name}.json"

    def kept(self, name: str) -> list[Path]:
        """Wherever an evaluation may be: what is published needs no work folder any more."""
        return [self.evaluation(name), self.results / f"{name}.json", self.part(name)]

    def load(self, name: str) -> Result | None:
        """One file of results; None if it was not measured yet."""
        return read(self.results / f"{name}.json")

    def store(self, name: str, fields: Result) -> None:
        """Publish results with the commit they were measured at, unless they stand there already.

        Results that say so themselves keep their commit; unchanged ones that of their first day.
        """
        old = self.load(name)
        if old is not None and {**old, "commit": None} == {**fields, "commit": None}:
            return
        file = self.results / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        write(file, {"commit": source_state(), **fields})

    def digest(self, names: Sequence[str]) -> str | None:
        """SHA-256 over files of results; None if one of them is missing."""
        files = [self.results / f"{name}.json" for name in names]
        if not all(file.is_file() for file in files):
            return None
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def default_places() -> Places:
    """This checkout; ``VEILSEG_DATA`` and ``VEILSEG_WORK`` say where data and work lie."""
    data = os.environ.get("VEILSEG_DATA", ROOT.parent / "shared" / "data")
    work = os.environ.get("VEILSEG_WORK", ROOT / "build" / "claims")
    return Places(ROOT, Path(data), Path(work))


def read(file: Path) -> Result | None:
    """A JSON object; None where there is no file."""
    if not file.is_file():
        return None
    fields: Result = json.loads(file.read_text(encoding="utf-8"))
    return fields


def write(file: Path, fields: Result) -> None:
    """A JSON object, whole or not at all; NaN is refused, since JSON has none."""
    write_text_whole(file, json.dumps(fields, indent=2, allow_nan=False) + "\n")
