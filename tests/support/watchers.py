"""``veilseg pacs`` as a process, and studies for it."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import dicoms
import numpy as np
import phantoms
import pydicom
from processes import START_TIMEOUT_S

AFFINE = dicoms.oblique(7, (1, 1, 1))
SHAPE = (18, 16, 20)
# Where marked voxels lie; bright noise, unlike anything in a reference.
BLOCK = (slice(6, 11), slice(5, 10), slice(6, 11))
BIRTH_DATE, STUDY_DATE = "19120623", "19540607"


class Watcher:
    """``veilseg pacs`` as a process, logging to one file however often it is started."""

    def __init__(self, log: Path, *arguments: object) -> None:
        command = [sys.executable, "-m", "veilseg.cli.main", "pacs", *arguments]
        self._command = [str(part) for part in command]
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(self._command, stdout=stream, stderr=subprocess.STDOUT)

    @property
    def text(self) -> str:
        return self.log.read_text()

    def end(self, how: signal.Signals) -> int:
        """End it; gives its exit code."""
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(60)

    def until(self, condition: Callable[[], object]) -> None:
        """Wait while it runs."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not condition():
            assert self.process is not None
            assert self.process.poll() is None, self.text
            assert time.monotonic() < deadline, self.text
            time.sleep(0.05)


def marked(raw: np.ndarray) -> np.ndarray:
    """Mark an image; gives the block to look for."""
    raw[BLOCK] = np.random.default_rng(4711).integers(200, 1000, raw[BLOCK].shape)
    return raw[BLOCK]


def study(folder: Path, number: int, spoil: bool = False) -> pydicom.Dataset:
    """Write a marked study of somebody of its own; gives the header of its first slice."""
    raw = phantoms.raw_image(phantoms.truth(SHAPE), number)
    marked(raw)
    datasets = dicoms.slices(raw, AFFINE)
    for dataset in datasets:
        dataset.PatientName = f"CANARY^NUMBER^{number}"
        dataset.PatientID = f"mrn-kanarienvogel-{number}"
        dataset.PatientBirthDate, dataset.StudyDate = BIRTH_DATE, STUDY_DATE
        dataset.SeriesDescription = "T1 Head"
    if spoil:
        datasets[7].PixelData = datasets[7].PixelData[:100]
    dicoms.write(folder, datasets)
    return datasets[0]


def secrets_of(*headers: pydicom.Dataset) -> list[str]:
    found = ["CANARY", "kanarienvogel", BIRTH_DATE, STUDY_DATE]
    for header in headers:
        found += [header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID]
        found += [header.FrameOfReferenceUID]
    return [str(one) for one in found]
