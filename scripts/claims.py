"""Measure every figure that README and model cards state; write ``results/`` and the documents.

Needs the data sets (``VEILSEG_DATA``, by default ``../shared/data``). Resumable: what
``results/`` holds already for a bundle's id is not measured again; ``--again`` measures all.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from figures import FAMILIES, MODELS, RESULTS, ROOT, documents, load, rendered

from veilseg.bundle import open_client_half
from veilseg.evaluation.bootstrap import bootstrap_difference
from veilseg.files import write_text_whole

DATA = Path(os.environ.get("VEILSEG_DATA", ROOT.parent / "shared" / "data"))
DATASETS = {"hippocampus": "hippocampus", "brain-tissue": "brain_t1_oasis_3d"}
SCHEMES = ("plain", "mixup")
VEILSEG = [sys.executable, "-m", "veilseg.cli.main"]
HELP_RUNS = 7


def run(*command: str | Path, **options: Any) -> str:
    """Run a command; its error output is shown, its output returned."""
    print("$", *command, flush=True)
    done = subprocess.run(
        list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True, **options
    )
    return done.stdout


def store(name: str, fields: dict[str, Any]) -> None:
    """Write one file of results with the commit it was measured at."""
    commit = run("git", "rev-parse", "HEAD", cwd=ROOT).strip()
    text = json.dumps({**fields, "commit": commit}, indent=2) + "\n"
    write_text_whole(RESULTS / f"{name}.json", text)


def measured(name: str, bundle_id: str, again: bool) -> bool:
    """Whether results of this very bundle are there."""
    path = RESULTS / f"{name}.json"
    return not again and path.is_file() and load(name).get("bundle_id") == bundle_id


def accuracy(again: bool) -> None:
    """Evaluate every shipped bundle on the patients it has not seen; compare the pairs."""
    margins = {}
    for family in FAMILIES:
        dataset = DATA / DATASETS[family]
        for scheme in SCHEMES:
            name = f"{family}-{scheme}"
            bundle = open_client_half(MODELS / name)
            if measured(name, bundle.manifest.bundle_id, again):
                continue
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "result.json"
                command = [*VEILSEG, "evaluate", MODELS / name, dataset, "--split", "test"]
                run(*command, "--json", file)
                store(name, json.loads(file.read_text(encoding="utf-8")))
        margins[family] = margin(family)
    store("margins", margins)


def margin(family: str) -> dict[str, Any]:
    """Private minus plain, paired by image, resampled by patient."""
    plain, mixup = (load(f"{family}-{scheme}")["cases"] for scheme in SCHEMES)
    scores = []
    for one, other in zip(mixup, plain, strict=True):
        if one["case"] != other["case"]:
            raise ValueError(f"{family}: the two schemes were evaluated on different cases")
        scores.append([_mean(one["dice"].values()), _mean(other["dice"].values())])
    private, raw = zip(*scores, strict=True)
    found = bootstrap_difference(private, raw, [case["patient"] for case in plain])
    return {
        "difference": round(found.mean, 4),
        "interval": [round(found.low, 4), round(found.high, 4)],
        "n_cases": found.cases,
        "n_patients": found.patients,
    }


def _mean(values: Any) -> float:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined)


def demo() -> None:
    """The demo's report, and its picture for the README."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "demo-out"
        run(*VEILSEG, "demo", "--out", out, cwd=ROOT)
        store("demo", json.loads((out / "report.json").read_text(encoding="utf-8")))
        picture = ROOT / "docs" / "images" / "demo.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes((out / "overview.png").read_bytes())


def site() -> None:
    """Size of a site's environment and the time of ``veilseg --help``."""
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder) / "site"
        run(sys.executable, "-m", "venv", environment)
        python, veilseg = environment / "bin" / "python", environment / "bin" / "veilseg"
        # What a new environment holds before anything is installed is not ours.
        empty = _bytes(environment)
        run(python, "-m", "pip", "install", "--quiet", "--no-compile", ROOT)
        size = _bytes(environment) - empty
        run(veilseg, "--help")
        seconds = []
        for _ in range(HELP_RUNS):
            started = time.perf_counter()
            subprocess.run([veilseg, "--help"], check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - started)
        store(
            "site",
            {"megabytes": round(size / 1e6, 1), "help_seconds": round(sorted(seconds)[3], 3)},
        )


def _bytes(folder: Path) -> int:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files)


def main() -> None:
    """Measure, store, and bring the documents up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--again", action="store_true", help="measure what is there already, too")
    again = parser.parse_args().again
    if not DATA.is_dir():
        sys.exit(f"claims: {DATA}: no data sets there; set VEILSEG_DATA")
    accuracy(again)
    demo()
    site()
    for path, card in documents().items():
        write_text_whole(path, rendered(path.read_text(encoding="utf-8"), card))


if __name__ == "__main__":
    main()
