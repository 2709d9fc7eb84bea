"""What using it is like: the demo, a site's environment, the overhead of protection."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from evidence.background import run
from evidence.jobs import BRAIN, HIPPOCAMPUS
from evidence.places import ROOT, Places, Result, read
from evidence.runs import VEILSEG
from veilseg.bundle import open_client_half
from veilseg.demo.run import BUNDLES
from veilseg.runtime import RUNTIMES

HELP_RUNS = 7
OVERHEAD = ROOT / "scripts" / "overhead.py"
OVERHEAD_PAIRS = 20  # there are 28 brains, and some are for the warm-up and cold starts


def demo(places: Places, again: bool) -> None:
    """The demo's report, and its picture for the README."""
    old = places.load("demo")
    if old is not None and not again and old["bundles"] == _ids(places, *BUNDLES):
        return
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "demo-out"
        run(*VEILSEG, "demo", "--out", out, cwd=places.root)
        places.store("demo", json.loads((out / "report.json").read_text(encoding="utf-8")))
        places.images.mkdir(parents=True, exist_ok=True)
        (places.images / "demo.png").write_bytes((out / "overview.png").read_bytes())


def site(places: Places, again: bool) -> None:  # noqa: ARG001 - a minute, and nothing to know it by
    """Size of a site's environment and the time of ``veilseg --help``."""
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder) / "site"
        run(sys.executable, "-m", "venv", environment)
        python, veilseg = environment / "bin" / "python", environment / "bin" / "veilseg"
        # What a new environment holds before anything is installed is not ours.
        empty = _bytes(environment)
        run(python, "-m", "pip", "install", "--quiet", "--no-compile", ROOT)
        size = _bytes(environment) - empty
        subprocess.run([veilseg, "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds = []
        for _ in range(HELP_RUNS):
            started = time.perf_counter()
            subprocess.run([veilseg, "--help"], check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - started)
    middle = sorted(seconds)[HELP_RUNS // 2]
    places.store("site", {"megabytes": round(size / 1e6, 1), "help_seconds": round(middle, 3)})


def overhead(places: Places, again: bool) -> None:
    """Private ÷ plain in time, for each pair of shipped bundles."""
    found: Result = {}
    old = places.load("overhead") or {}
    there = [
        (overhead_name(data.name, scheme, engine), data, scheme, engine)
        for data in (HIPPOCAMPUS, BRAIN)
        for scheme in ("mixup", "encoding")
        for engine in RUNTIMES
        if (places.models / f"{data.name}-{scheme}").is_dir()
    ]
    for name, data, scheme, engine in there:
        pair = [f"{data.name}-plain", f"{data.name}-{scheme}"]
        known = old.get(name)
        if known is not None and not again and known["bundles"] == _ids(places, *pair):
            found[name] = known
            continue
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "overhead.json"
            bundles = [places.models / name for name in pair]
            inputs = [OVERHEAD, *bundles, places.data / data.folder]
            how = ["--images", str(OVERHEAD_PAIRS), "--runtime", engine]
            run(sys.executable, *inputs, *how, "--json", file)
            found[name] = read(file)
    places.store("overhead", found)


def overhead_name(data: str, scheme: str, engine: str) -> str:
    """By which a measurement is stored: the default runtime and mixup go without saying."""
    parts = [data, *([] if scheme == "mixup" else [scheme])]
    return "-".join([*parts, *([] if engine == "onnxruntime" else [engine])])


def _ids(places: Places, *names: str) -> dict[str, str]:
    return {name: open_client_half(places.models / name).manifest.bundle_id for name in names}


def _bytes(folder: Path) -> int:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files)
