"""``veilseg bench volume``: a large image through a site, and what memory it takes there.

``veilseg segment`` is a process of its own, so that its peak is that of one image and nothing else;
a server process is asked how much it holds after each.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from veilseg.bench.memory import resident_mib
from veilseg.bench.record import record
from veilseg.bundle import open_client_half
from veilseg.child_processes import END_WITH_PARENT
from veilseg.demo.server import server_process
from veilseg.errors import VeilsegError
from veilseg.vault.vault import Vault

SPACING_MM: Final = (0.7, 0.7, 1.0)
# Of the image's side: what is not air, and how fine its structures are.
BODY, WAVES = 0.8, 9.0
BRIGHTEST, NOISE = 1000.0, 20.0
PROGRESS: Final = re.compile(r"segmenting: (\d+)/(\d+)")
# The first warms the server up.
RUNS: Final = 3

Progress = Callable[[int, int, str], None]


def measure(
    bundles: Sequence[Path], shape: tuple[int, int, int], folder: Path, progress: Progress
) -> dict[str, Any]:
    """Segment one made-up image several times with each bundle.

    Parameters
    ----------
    bundles : sequence of Path
        Both halves. Bundles that need a vault have synthetic references.
    shape : (X, Y, Z)
    folder : Path
        For image, vaults and label maps that nobody keeps.
    progress : callable

    Returns
    -------
    dict
        JSON-ready: of each bundle the peak of the site's memory, the server's after each image,
        seconds, and how the progress that was shown went.

    Raises
    ------
    VeilsegError
        If an image is not segmented; with the last line that was written.
    """
    found = record("volume", 0, {"shape": list(shape), "spacing_mm": list(SPACING_MM)})
    scan = folder / "scan.nii.gz"
    image = nib.Nifti1Image(body(shape), np.diag([*SPACING_MM, 1.0]))  # type: ignore[no-untyped-call]
    nib.save(image, scan)
    rows: dict[str, Any] = {}
    for number, bundle in enumerate(bundles):
        manifest = open_client_half(bundle).manifest
        vault = folder / f"vault-{number}"
        Vault.create(vault, manifest.protection_id)
        runs, server = [], []
        with server_process([bundle]) as url:
            idle = resident_mib(url)
            for run in range(RUNS):
                progress(RUNS * number + run, RUNS * len(bundles), manifest.name)
                where = ["--server", url, "--bundle", bundle, "--vault", vault]
                runs.append(_segmented(scan, where, folder / f"labels-{number}-{run}.nii.gz"))
                server.append(round(resident_mib(url), 1))
        rows[manifest.name] = {
            "bundle_id": manifest.bundle_id,
            "site_peak_mib": max(run["peak_mib"] for run in runs),
            "seconds": [run["seconds"] for run in runs],
            "server_idle_mib": round(idle, 1),
            "server_mib": server,
            "progress": runs[-1]["progress"],
        }
    progress(RUNS * len(bundles), RUNS * len(bundles), "")
    return {**found, "bundles": rows}


def body(shape: tuple[int, int, int], seed: int = 0) -> NDArray[np.int16]:
    """Something round in air, with structures and noise, as a scanner's integers (X, Y, Z)."""
    rng = np.random.default_rng(seed)
    axes = [np.linspace(-1, 1, size, dtype=np.float32) for size in shape]
    found = np.zeros(shape, dtype=np.int16)
    # Slice by slice: the image is to be the only thing that is large.
    for slice_, z in zip(np.moveaxis(found, 2, 0), axes[2], strict=True):
        radius = np.sqrt(axes[0][:, None] ** 2 + axes[1] ** 2 + z**2) / BODY
        tissue = BRIGHTEST * (0.6 + 0.3 * np.cos(WAVES * radius))
        noisy = tissue + rng.normal(0, NOISE, radius.shape)
        slice_[...] = np.where(radius < 1, noisy.clip(1), 0)
    return found


def _segmented(scan: Path, where: Sequence[object], out: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "veilseg.cli.main", "segment", str(scan), "-o", str(out)]
    begun = time.perf_counter()
    process = subprocess.Popen(
        [*command, *map(str, where)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=END_WITH_PARENT,
    )
    assert process.stderr is not None
    shown, last = [], "it wrote nothing"
    with process.stderr:
        for line in process.stderr:
            last = line.strip() or last
            if told := PROGRESS.match(line):
                shown.append([round(time.perf_counter() - begun, 1), *map(int, told.groups())])
    # By the kernel, and of this child alone: whoever asks for children's usage gets the largest.
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise VeilsegError(f"veilseg segment ended with {process.returncode}: {last}")
    return {
        "peak_mib": round(usage.ru_maxrss / 1024, 1),
        "seconds": round(time.perf_counter() - begun, 1),
        # Seconds, tiles done, tiles in all: as they were shown.
        "progress": shown,
    }
