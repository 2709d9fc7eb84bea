"""``veilseg bench families``."""

import signal
import sys
from pathlib import Path
from typing import Any

from veilseg.bench import record
from veilseg.bundle import open_server_half
from veilseg.cli.bench import EXIT_TERMINATED
from veilseg.cli.extras import needing
from veilseg.cli.progress import progress


def families(bundle: Path, json_file: Path, threads: int, budget_s: float, peers: Path) -> None:
    """Compute one layer in every family and tell what the network would cost.

    Raises
    ------
    NotRun
        If no family's environment is there.
    MissingDependency
        If the ``[server]`` extra is not installed.
    """
    record.require_writable(json_file)
    with needing("server", "veilseg bench needs"):
        from veilseg.bench.families import measure
    half = open_server_half(bundle)
    # Else the processes it has started would outlive it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))
    with progress("measuring") as show:
        found = measure(half, threads, budget_s, peers, show)
    record.write(json_file, found)
    for row in found["families"]:
        print(f"{row['family']}: {_told(row)}")


def _told(row: dict[str, Any]) -> str:
    if row["status"] != "run":
        return str(row["status"])
    told, whole = row["phases"]["convolve"], row["estimate"]
    return (
        f"{told['seconds']:.3g} s for the layer, {row['times_plain']['median']:.0f}× in the clear, "
        f"largest error {row['largest_error']:.2g}; the whole network, estimated, a tile: "
        f"{sum(whole['seconds'].values()):.3g} s, {sum(whole['bytes'].values()) / 1e6:.3g} MB"
    )
