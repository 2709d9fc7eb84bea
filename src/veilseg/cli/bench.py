"""``veilseg bench``: measurements that one asks for, beside what else one could use."""

import json
import re
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from veilseg.bench import record
from veilseg.bundle import open_client_half, open_server_half
from veilseg.cli.extras import needing
from veilseg.cli.key import read_key
from veilseg.cli.progress import progress
from veilseg.cli.site import init
from veilseg.datasets.layout import read_dataset
from veilseg.errors import InvalidInput, WrongUsage
from veilseg.payload import Proxy
from veilseg.runtime import runtime as load_by_name
from veilseg.schemes.mixup.client import has_synthetic_references
from veilseg.schemes.registry import NEEDS_VAULT, client_half
from veilseg.vault.vault import Vault

# As a shell reports a process that SIGTERM ended.
EXIT_TERMINATED = 128 + signal.SIGTERM
SHAPE = re.compile(r"[1-9]\d{0,4}(x[1-9]\d{0,4}){2}")


@dataclass(frozen=True)
class RuntimeRequest:
    """Options of ``veilseg bench runtime``, as typed."""

    bundles: list[Path]
    json_file: Path
    threads: int
    budget_s: float
    datasets: list[Path]
    references: str
    cases: int


@dataclass(frozen=True)
class ServeRequest:
    """Options of ``veilseg bench serve``, as typed."""

    bundle: Path
    json_file: Path
    threads: int
    budget_s: float
    clients: list[int]
    replicas: list[int]
    peers: Path


@dataclass(frozen=True)
class PlanRequest:
    """Options of ``veilseg bench plan``, as typed."""

    calibration: Path
    json_file: Path
    tiles_per_scan: int
    under_way: int
    load: float
    site_mbit_per_s: float
    front_mbit_per_s: float
    price_per_core_hour: float


@dataclass(frozen=True)
class SoakRequest:
    """Options of ``veilseg bench soak``, as typed."""

    bundle: Path
    json_file: Path
    minutes: float
    load: float
    clients: int
    threads: int


@dataclass(frozen=True)
class SiteRequest:
    """Options of ``veilseg bench site``, as typed."""

    bundles: list[Path]
    dataset: Path
    json_file: Path
    images: int
    runtime: str
    key_file: Path | None = None


def runtime(request: RuntimeRequest) -> None:
    """Compare runtimes on the networks of bundles; raises :class:`MissingDependency`."""
    record.require_writable(request.json_file)
    with needing("server", "veilseg bench needs"):
        from veilseg.bench.runtime import measure
    halves = [open_server_half(folder) for folder in request.bundles]
    with ExitStack() as opened:
        evaluators = {}
        if request.datasets:
            from veilseg.cli.bench_accuracy import evaluators_of

            evaluators = opened.enter_context(
                evaluators_of(request.bundles, request.datasets, request.references, request.cases)
            )
        show = opened.enter_context(progress("measuring"))
        found = measure(halves, request.threads, request.budget_s, evaluators, show)
    record.write(request.json_file, found)
    for name, network in found["networks"].items():
        for what, row in network["runtimes"].items():
            print(f"{name}: {what}: {_told(row, network['compared_with'])}")


def _told(row: dict[str, Any], base: str) -> str:
    if row["status"] != "run":
        return str(row["status"])
    told = f"{1000 * row['median_s']:.4g} ms, {row['speedup']['median']:.2f}× {base}"
    if "dice" in row:
        told += f", Dice after recovery {row['dice']['difference']:+.4f}"
    return told


def serve(request: ServeRequest) -> None:
    """Compare servers under load; raises as :func:`runtime`."""
    record.require_writable(request.json_file)
    with needing("server", "veilseg bench needs"):
        from veilseg.bench.serve import measure
        from veilseg.bench.servers import Setup
        from veilseg.serving.runtime import require_available
    setup = Setup(
        request.bundle,
        open_server_half(request.bundle),
        require_available("auto"),
        request.threads,
        request.peers,
    )
    # Else the servers it has started would outlive it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))
    with progress("measuring") as show:
        found = measure(setup, request.clients, request.replicas, request.budget_s, show)
    record.write(request.json_file, found)
    print(f"bare loop: {found['bare']['throughput']} tiles/s")
    for row in found["servers"]:
        if row["status"] != "run":
            print(f"{row['server']} ×{row['replicas']}: {row['status']}")
            continue
        for clients, figures in row["clients"].items():
            print(
                f"{row['server']} ×{row['replicas']}, {clients} clients:"
                f" {figures.get('throughput', 0)} tiles/s,"
                f" p95 {figures.get('p95_ms', float('nan'))} ms, failures {figures['failures']}"
            )


def site(request: SiteRequest) -> None:
    """Tell where a site's time goes.

    Raises
    ------
    InvalidInput
        If the data set has too few images: none is segmented twice with one bundle.
    MissingDependency
        If the ``[server]`` extra is not installed.
    """
    record.require_writable(request.json_file)
    with needing("server", "veilseg bench needs"):
        from veilseg.bench.site import WARM_UP, Arm, measure
    dataset = read_dataset(request.dataset)
    needed = request.images + WARM_UP
    if len(dataset.cases) < needed:
        raise InvalidInput(
            f"--budget-images {request.images}: {request.dataset} has {len(dataset.cases)} images,"
            f" and {needed} are needed"
        )
    with ExitStack() as opened:
        work = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        arms: dict[str, Arm] = {}
        for folder in request.bundles:
            bundle = open_client_half(folder)
            manifest = bundle.manifest
            vault = None
            if manifest.scheme in NEEDS_VAULT:
                place = work / f"vault-{len(arms)}"
                synthetic = has_synthetic_references(manifest)
                init(place, folder, "synthetic" if synthetic else str(request.dataset))
                vault = opened.enter_context(Vault.open(place, manifest.protection_id))
            keyed = manifest.scheme == "encoding"
            key = read_key(request.key_file) if keyed else None
            half = client_half(bundle, vault, key=key, load=load_by_name(request.runtime))
            veto = None if vault is None else _Ledger(vault)
            arms[manifest.name] = Arm(manifest, half, veto)
        show = opened.enter_context(progress("measuring"))
        found = measure(arms, request.bundles, dataset.cases[:needed], work, show)
    found |= {"dataset": dataset.name, "data_sha256": dataset.content_hash()}
    record.write(request.json_file, {**found, "runtime": request.runtime})
    for name, entry in found["bundles"].items():
        phases = ", ".join(f"{phase} {ms:.4g}" for phase, ms in entry["milliseconds"].items())
        print(f"{name}, ms: {phases}")


def plan(request: PlanRequest) -> None:
    """Simulate more machines.

    Raises
    ------
    InvalidInput
        If the calibration is no result of ``veilseg bench serve``.
    MissingDependency
        If the ``[bench]`` extra is not installed.
    """
    record.require_writable(request.json_file)
    with needing("bench", "veilseg bench plan needs"):
        from veilseg.bench.plan import Assumptions, measure
    try:
        serve_result = json.loads(request.calibration.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{request.calibration}: no JSON that can be read") from error
    assumptions = Assumptions(
        request.tiles_per_scan,
        request.under_way,
        request.load,
        request.site_mbit_per_s,
        request.front_mbit_per_s,
        request.price_per_core_hour,
    )
    with progress("simulating") as show:
        found = measure(serve_result, assumptions, show)
    record.write(request.json_file, found)
    for row in found["points"]:
        told = row["status"]
        if "scan_p95_s" in row:
            told = f"p95 {row['scan_p95_s']} s, {row['cost_per_1000_scans']} per 1,000 scans"
        print(f"{row['replicas']} replicas, {row['fronts']} fronts: {told}")
    print(f"breaks first: {found['breaks_first']['first']}")


def soak(request: SoakRequest) -> None:
    """Load a server for long; raises as :func:`runtime`."""
    record.require_writable(request.json_file)
    with needing("server", "veilseg bench needs"):
        from veilseg.bench.soak import measure
    # Else the server it has started would outlive it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))
    with progress("loading") as show:
        found = measure(
            *(request.bundle, request.minutes, request.load, request.clients, request.threads),
            show,
        )
    record.write(request.json_file, found)
    memory = found["memory"]
    print(
        f"{found['requests']} requests, failures {found['failures']}, {found['answered']} of "
        f"{found['offered']} tiles/s, p95 {found['p95_ms']} ms; memory {memory['first_mib']} to "
        f"{memory['last_mib']} MiB"
    )


def volume(bundles: list[Path], json_file: Path, shape: str) -> None:
    """Segment a large image; raises as :func:`runtime`, and WrongUsage for a shape that is none."""
    record.require_writable(json_file)
    if not SHAPE.fullmatch(shape):
        raise WrongUsage(f"--shape {shape}: give XxYxZ, as 512x512x400")
    with needing("server", "veilseg bench needs"):
        from veilseg.bench.volume import measure
    first, second, third = map(int, shape.split("x"))
    with tempfile.TemporaryDirectory() as work, progress("measuring") as show:
        found = measure(bundles, (first, second, third), Path(work), show)
    record.write(json_file, found)
    for name, row in found["bundles"].items():
        print(
            f"{name}: site {row['site_peak_mib']:.0f} MiB at the most, "
            f"{row['seconds'][-1]} s; server {row['server_mib']} MiB after each image"
        )


@dataclass(frozen=True)
class _Ledger:
    """Enters what is about to leave, as ``veilseg segment`` does."""

    vault: Vault

    def __call__(self, subject: str, proxies: Sequence[Proxy]) -> None:
        digests = [proxy.digest() for proxy in proxies]
        self.vault.record(subject, *digests, allow_repeat=False)
