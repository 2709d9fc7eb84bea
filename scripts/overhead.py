"""Measure what protection costs in time: private ÷ plain, end to end, as a user has it.

A real server process on this machine serves both bundles. One warm client process segments each
image plainly and privately, one right after the other, in alternating order; vault and server see
every image for the first time. The first image of a fresh ``veilseg segment`` is timed apart.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evidence.places import source_state, write
from evidence.runs import VEILSEG

from veilseg.bench.operations import multiply_adds_of_bundle
from veilseg.bench.rounds import ratio
from veilseg.bundle import ClientBundle, open_client_half
from veilseg.cli.site import init
from veilseg.client.pipeline import channel_files, segment
from veilseg.client.remote import RemoteServer
from veilseg.datasets.layout import Case, read_dataset
from veilseg.demo.server import server_process
from veilseg.errors import InvalidInput, VeilsegError, WrongUsage
from veilseg.imaging.formats import result_endings, write_label_map
from veilseg.runtime import RUNTIMES, runtime
from veilseg.scheme import ClientHalf
from veilseg.schemes.mixup.client import has_synthetic_references
from veilseg.schemes.registry import client_half
from veilseg.vault.vault import Vault

WARM_UP_PAIRS = 2
COLD_STARTS = 3
# As the pipeline counts: the first includes reading, the third restoring to the image's grid.
PHASES = ("protect", "process", "recover", "write")

Seconds = dict[str, float]


@dataclass(frozen=True)
class Site:
    """One scheme in a warm client process: everything that outlives an image."""

    folder: Path
    bundle: ClientBundle
    half: ClientHalf
    vault: Vault | None
    server: RemoteServer

    def segment(self, case: Case, out: Path) -> Seconds:
        """Read, protect, send, recover and write one image; seconds by phase and in all."""
        manifest = self.bundle.manifest
        started = time.perf_counter()
        files = channel_files(case.images[0], manifest)
        vault = self.vault
        found = segment(
            files,
            case.name,
            manifest,
            self.half,
            self.server,
            None
            if vault is None
            else lambda proxies: _enter(vault, case.name, [proxy.digest() for proxy in proxies]),
        )
        segmented = time.perf_counter()
        write_label_map(out, found.labels)
        ended = time.perf_counter()
        seconds = {**found.seconds, "write": ended - segmented, "total": ended - started}
        return {**seconds, "rest": seconds["total"] - sum(seconds[phase] for phase in PHASES)}


@contextmanager
def warm_site(
    bundle_folder: Path, vault_folder: Path, url: str, dataset: Path, engine: str
) -> Iterator[Site]:
    """A site with a fresh vault, connected to the server."""
    bundle = open_client_half(bundle_folder)
    private = bundle.manifest.scheme == "mixup"
    with ExitStack() as opened:
        vault = None
        if private:
            synthetic = has_synthetic_references(bundle.manifest)
            init(vault_folder, bundle_folder, "synthetic" if synthetic else str(dataset))
            vault = opened.enter_context(Vault.open(vault_folder, bundle.manifest.bundle_id))
        server = opened.enter_context(RemoteServer(url, bundle.manifest))
        server.check()
        half = client_half(bundle, vault, load=runtime(engine))
        yield Site(bundle_folder, bundle, half, vault, server)


def measure(
    bundles: Sequence[Path], dataset_folder: Path, pairs: int, engine: str = "onnxruntime"
) -> dict[str, Any]:
    """Everything, as a JSON-ready document.

    Raises
    ------
    InvalidInput
        If the data set has too few images.
    """
    dataset = read_dataset(dataset_folder)
    needed = pairs + WARM_UP_PAIRS + COLD_STARTS
    if len(dataset.cases) < needed:
        raise InvalidInput(
            f"--images {pairs}: {dataset_folder.name} has {len(dataset.cases)} images and "
            f"{needed} are needed, since no image is segmented twice"
        )
    cases = dataset.cases[:needed]
    with ExitStack() as opened:
        work = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        url = opened.enter_context(server_process(list(bundles)))
        sites = {}
        for folder, is_plain in zip(bundles, (True, False), strict=True):
            site = opened.enter_context(
                warm_site(folder, work / "vault", url, dataset_folder, engine)
            )
            scheme = site.bundle.manifest.scheme
            if (scheme == "plain") != is_plain:
                needed_here = "a plain" if is_plain else "a protecting"
                raise WrongUsage(f"{folder}: {needed_here} bundle is needed here")
            sites[scheme] = site
        schemes = tuple(sites)
        out = work / f"labels{result_endings(cases[0].images[0])[0]}"
        seconds: dict[str, list[Seconds]] = {scheme: [] for scheme in schemes}
        for number, case in enumerate(cases[: WARM_UP_PAIRS + pairs]):
            # Whoever comes second finds the file in the cache: they take turns.
            for scheme in schemes if number % 2 == 0 else reversed(schemes):
                seconds[scheme].append(sites[scheme].segment(case, out))
        images = WARM_UP_PAIRS + pairs
        traffic = {
            scheme: {
                "sent": site.server.bytes_sent // images,
                "received": site.server.bytes_received // images,
            }
            for scheme, site in sites.items()
        }
        manifests = [site.bundle.manifest for site in sites.values()]
        cold = {
            scheme: statistics.median(
                _cold(sites[scheme], work, url, case, out, engine) for case in cases[images:]
            )
            for scheme in schemes
        }
    counted = {scheme: rows[WARM_UP_PAIRS:] for scheme, rows in seconds.items()}
    plain, private = ([row["total"] for row in counted[scheme]] for scheme in schemes)
    return {
        "bundles": {manifest.name: manifest.bundle_id for manifest in manifests},
        "dataset": dataset.name,
        "data_sha256": dataset.content_hash(),
        "n_pairs": pairs,
        "ratio": ratio(plain, private),
        "seconds": {
            scheme: {
                name: round(statistics.median(row[name] for row in rows), 4) for name in rows[0]
            }
            for scheme, rows in counted.items()
        },
        "bytes_per_image": traffic,
        "multiply_adds": {
            scheme: multiply_adds_of_bundle(site.folder) for scheme, site in sites.items()
        },
        "cold_start": {scheme: round(value, 3) for scheme, value in cold.items()},
        "runtime": engine,
        "cores": os.cpu_count(),
        "commit": source_state(),
    }


def _cold(site: Site, work: Path, url: str, case: Case, out: Path, engine: str) -> float:
    """Seconds of a whole ``veilseg segment`` process for one image."""
    command = [*VEILSEG, "segment", case.images[0], "--server", url, "--bundle", site.folder]
    command += ["--runtime", engine]
    vault = [] if site.vault is None else ["--vault", work / "vault"]
    started = time.perf_counter()
    subprocess.run(
        list(map(str, [*command, *vault, "--subject", case.name, "-o", out])),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - started


def _enter(vault: Vault, subject: str, digests: Sequence[str]) -> None:
    vault.record(subject, *digests, allow_repeat=False)


def main() -> int:
    """Measure one pair of bundles and write the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plain", type=Path, help="bundle of the scheme plain")
    parser.add_argument("private", type=Path, help="bundle of another scheme, on the same data")
    parser.add_argument("dataset", type=Path, help="data set whose images are segmented")
    parser.add_argument("--images", type=int, default=20, metavar="N", help="pairs that count")
    parser.add_argument("--runtime", choices=RUNTIMES, default="onnxruntime")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    options = parser.parse_args()
    try:
        found = measure(
            [options.plain, options.private], options.dataset, options.images, options.runtime
        )
    except VeilsegError as error:
        print(f"overhead: {error}", file=sys.stderr)
        return 3
    write(options.json, found)
    low, high = found["ratio"]["interval"]
    print(f"private ÷ plain {found['ratio']['median']} ({low}…{high}, {options.images} pairs)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
