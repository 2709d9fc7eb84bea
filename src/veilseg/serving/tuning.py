"""How a network best takes up this machine: measured once, kept, found again.

The choice holds for one model file, one precision and one kind of machine, whose digest names the
file that keeps it; another processor, number of cores or OpenVINO measures anew.
"""

import hashlib
import json
import logging
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from veilseg.bundle import ServerBundle
from veilseg.errors import OutputNotWritable
from veilseg.files import write_text_whole
from veilseg.machine import processor, usable_cores
from veilseg.serving.models import ServedModel
from veilseg.serving.runtime import Precision, Sizing, require_available
from veilseg.serving.settings import Settings
from veilseg.wire.tensors import DTYPES, FloatArray

logger = logging.getLogger(__name__)

BATCH_SIZES: Final = (1, 2, 4)
TRIAL_S: Final = 3.0
LONE_RUNS: Final = 3
# Of two sizings within this share of the best, the one that answers a lone tile sooner is better:
# so much changes from one measurement to the next.
NEAR: Final = 0.95


@dataclass(frozen=True)
class Trial:
    """One sizing, measured.

    Attributes
    ----------
    sizing : Sizing
    tiles_per_s : float
        With as many tiles under way as it takes.
    lone_s : float
        For one tile with nobody else there.
    """

    sizing: Sizing
    tiles_per_s: float
    lone_s: float


Measure = Callable[[Sizing], Trial | None]


def candidates(cores: int) -> list[Sizing]:
    """Every sizing that is tried: streams by powers of two up to the cores, all cores in use."""
    streams = sorted({min(2**power, cores) for power in range(cores.bit_length() + 1)})
    return [Sizing(size, count, cores) for count in streams for size in BATCH_SIZES]


def best(trials: Iterable[Trial]) -> Trial:
    """The most tiles per second; of those that are near it, the soonest answer to a lone tile."""
    tried = list(trials)
    most = max(trial.tiles_per_s for trial in tried)
    near = [trial for trial in tried if trial.tiles_per_s >= NEAR * most]
    return min(near, key=lambda trial: trial.lone_s)


def tune(
    sizings: Iterable[Sizing], measure: Measure, report: Callable[[Trial], None] | None = None
) -> tuple[Trial, list[Trial]]:
    """Measure every sizing and choose.

    Parameters
    ----------
    sizings : iterable of Sizing
        The first is one that every model takes.
    measure : callable
        Gives None for a sizing that the model does not take.
    report : callable, optional
        Hears of each trial.

    Returns
    -------
    (Trial, list of Trial)
        The chosen one, and all.
    """
    trials = []
    for sizing in sizings:
        trial = measure(sizing)
        if trial is None:
            continue
        trials.append(trial)
        if report is not None:
            report(trial)
    return best(trials), trials


def measured(
    make: Callable[[Sizing], ServedModel],
    tile: FloatArray,
    sizing: Sizing,
    trial_s: float = TRIAL_S,
    clock: Callable[[], float] = time.perf_counter,
) -> Trial | None:
    """Time a model of one sizing, as the server would use it.

    Parameters
    ----------
    make : callable
        Compiles and self-tests the model.
    tile : ndarray, shape (C, X, Y, Z)
    sizing : Sizing
    trial_s : float
        No batch begins after it.
    clock : callable

    Returns
    -------
    Trial or None
        None if the self-test fails, as where an answer depends on others of its batch.
    """
    model = make(sizing)
    if model.failure is not None:
        return None
    alone = tile[np.newaxis]
    lone = []
    for _ in range(LONE_RUNS):
        begun = clock()
        model.answers(alone)
        lone.append(clock() - begun)
    batch = np.repeat(alone, sizing.batch_size, axis=0)
    counts = [0] * sizing.streams

    def stream(number: int) -> None:
        while not counts[number] or clock() - begun < trial_s:
            model.answers(batch)
            counts[number] += 1

    begun = clock()
    threads = [threading.Thread(target=stream, args=(n,)) for n in range(sizing.streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = clock() - begun
    tiles = sizing.batch_size * sum(counts)
    return Trial(sizing, tiles / seconds, statistics.median(lone))


class Tunings:
    """Choices on disk.

    Parameters
    ----------
    folder : Path, optional
        By default ``veilseg/tuning`` in the user's cache.
    machine : str, optional
        By default this one.
    """

    def __init__(self, folder: Path | None = None, machine: str | None = None) -> None:
        self.folder = folder or _cache() / "veilseg" / "tuning"
        self._machine = machine or _machine()

    def get(self, bundle: ServerBundle, precision: str) -> Sizing | None:
        """What was chosen for a model; None if nothing was, or the file cannot be read."""
        file = self._file(bundle, precision)
        try:
            fields = json.loads(file.read_text(encoding="utf-8"))
            sizing = Sizing(**fields["sizing"])
            counts = (sizing.batch_size, sizing.streams, sizing.threads)
            if not all(type(count) is int for count in counts) or min(counts[:2]) < 1:
                raise ValueError("no counts")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            # Slower is better than not at all.
            logger.warning("%s: no readable tuning (%s)", file, type(error).__name__)
            return None
        return sizing

    def put(
        self, bundle: ServerBundle, precision: str, chosen: Trial, trials: Iterable[Trial]
    ) -> Path:
        """Keep a choice, whole or not at all.

        Raises
        ------
        OutputNotWritable
            If the folder cannot be made or takes no file.
        """
        file = self._file(bundle, precision)
        fields: dict[str, Any] = {
            "model": bundle.manifest.name,
            "version": bundle.manifest.version,
            "model_sha256": _digest(bundle),
            "machine": self._machine,
            "precision": precision,
            "sizing": asdict(chosen.sizing),
            "trials": [
                {
                    **asdict(trial.sizing),
                    "tiles_per_s": round(trial.tiles_per_s, 3),
                    "lone_ms": round(1000 * trial.lone_s, 2),
                }
                for trial in trials
            ],
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputNotWritable(f"{self.folder}: cannot be made: {error.strerror}") from error
        write_text_whole(file, json.dumps(fields, indent=2) + "\n")
        return file

    def _file(self, bundle: ServerBundle, precision: str) -> Path:
        key = "\n".join((_digest(bundle), self._machine, precision))
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def sizing_of(bundle: ServerBundle, settings: Settings, tunings: Tunings) -> Sizing:
    """How a model is served: as the operator says, else as it was tuned, else one tile at once."""
    if (settings.batch_size, settings.streams, settings.threads) != (None, None, None):
        return Sizing(settings.batch_size or 1, settings.streams or 1, settings.threads or 0)
    if settings.engine == "ray" or settings.runtime != "openvino":
        return Sizing()  # what was tuned is for OpenVINO, in one process that has all cores
    return tunings.get(bundle, require_available(settings.precision)) or Sizing()


def tune_bundle(
    bundle: ServerBundle,
    precision: Precision,
    cores: int | None = None,
    trial_s: float | None = None,
    report: Callable[[Trial], None] | None = None,
) -> tuple[Trial, list[Trial]] | None:
    """Choose for the server half of a bundle, on this machine; None if it is not to be served."""
    proxy = bundle.manifest.proxy

    def make(sizing: Sizing) -> ServedModel:
        return ServedModel(bundle, precision, sizing=sizing)

    if make(Sizing()).failure is not None:
        return None
    with np.load(bundle.selftest_file, allow_pickle=False) as arrays:
        tile = arrays["proxy"].astype(DTYPES[proxy.datatype])
    sizings = candidates(cores or usable_cores())
    seconds = TRIAL_S if trial_s is None else trial_s
    return tune(sizings, lambda sizing: measured(make, tile, sizing, seconds), report)


def _digest(bundle: ServerBundle) -> str:
    manifest = bundle.manifest
    return manifest.files[f"{manifest.name}/1/model.onnx"]


def _machine() -> str:
    return f"{processor()}, {usable_cores()} cores, OpenVINO {version('openvino')}"


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
