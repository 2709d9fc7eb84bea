"""``veilseg fit``: the server network, anew, on all that sites have contributed and not withdrawn.

From nothing each time: a network that went on from the last one would still hold what a site that
has withdrawn taught it.
"""

import contextlib
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from lightning_fabric import Fabric
from safetensors import SafetensorError
from sqlalchemy.orm import Session
from torch import nn

from veilseg.binding import seal_server_half
from veilseg.bundle import ServerManifest, open_server_half
from veilseg.collaboration import fits, projects
from veilseg.collaboration.errors import Conflict, DatabaseAway
from veilseg.collaboration.provider import Provider
from veilseg.collaboration.shards import ShardPairs
from veilseg.collaboration.tables import Fit
from veilseg.contribution import PairFormat, ProtectedPair
from veilseg.errors import IntegrityError
from veilseg.networks.segmenter import Segmenter
from veilseg.payload import Float32Array
from veilseg.schemes.encoding.mapping import MappingFit
from veilseg.schemes.encoding.sequence import Layout
from veilseg.schemes.mixup.mapping import mixture_stage
from veilseg.training.loop import fit as run_stage
from veilseg.training.processes import launch
from veilseg.training.recipe import Recipe
from veilseg.training.server_half import write_server_half
from veilseg.training.stage import Stage

logger = logging.getLogger(__name__)

Report = Callable[[int, int, str], None]


def fit(
    provider: Provider, project: str, steps: int, seed: int, resume: bool, report: Report
) -> int | None:
    """Fit, publish a version, and record how it went.

    Under ``torchrun`` every process runs this; the first alone records and publishes.

    Parameters
    ----------
    provider : Provider
    project : str
    steps, seed : int
    resume : bool
        Go on with the last fit, which did not end: with its steps, seed and contributions.
    report : callable
        Called with (steps done, steps, note) by the first process.

    Returns
    -------
    int or None
        Number of the new version; None in all processes but the first.

    Raises
    ------
    UnknownObject
        If there is no such project, or nothing to fit to.
    IntegrityError
        If a shard is not what its site sent.
    Conflict
        If a site withdrew since the fit began, there is nothing to resume, or it still runs.
    TrainingDiverged
        If the loss is no finite number.
    """
    fabric = launch()
    begun: Any = None
    if fabric.is_global_zero:
        begun = _begun(provider, project, steps, seed, resume)
    job: _Job = fabric.broadcast(begun)
    if not fabric.is_global_zero:
        _fitted(provider, job, resume, report, fabric)
        return None
    with _alone(provider, job):
        try:
            network = _fitted(provider, job, resume, report, fabric)
            number = _published(provider, project, job.fit_id, network)
        except BaseException as error:
            if isinstance(error, Conflict):
                # It holds what a site has withdrawn.
                shutil.rmtree(job.folder(provider), ignore_errors=True)
            with contextlib.suppress(DatabaseAway), provider.database.session() as session:
                fits.end(session, job.fit_id, done=False)
            raise
        shutil.rmtree(job.folder(provider))
    return number


@dataclass(frozen=True)
class _Job:
    """What a fit is defined by."""

    fit_id: int
    steps: int
    seed: int
    manifest: list[dict[str, Any]]
    expected: PairFormat

    def folder(self, provider: Provider) -> Path:
        return provider.work / f"fit-{self.fit_id}"

    def fingerprint(self) -> str:
        """Of a checkpoint that may be gone on from."""
        parts = [self.steps, self.seed, self.manifest, self.expected.to_json()]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@contextlib.contextmanager
def _alone(provider: Provider, job: _Job) -> Iterator[None]:
    """Two that go on with one fit would write one checkpoint. Raises Conflict."""
    lock = FileLock(f"{job.folder(provider)}.lock")
    provider.work.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise Conflict(f"fit {job.fit_id}: is still running") from error
    try:
        yield
    finally:
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


def _begun(provider: Provider, project: str, steps: int, seed: int, resume: bool) -> _Job:
    with provider.database.session() as session:
        found = projects.find(session, project)
        # Copies and checkpoints of fits that were killed, of what a site has withdrawn since.
        for fit_id in fits.outdated(session, found):
            shutil.rmtree(provider.work / f"fit-{fit_id}", ignore_errors=True)
        if resume:
            begun = fits.last_unfinished(session, found)
            fits.require_unchanged(session, begun)
        else:
            begun = fits.begin(session, found, steps, seed)
        expected = projects.expected_format(found)
        return _Job(begun.id, begun.steps, begun.seed, begun.manifest, expected)


def _fitted(
    provider: Provider, job: _Job, resume: bool, report: Report, fabric: Fabric
) -> nn.Module:
    folder = job.folder(provider)
    folder.mkdir(parents=True, exist_ok=True)
    pairs = ShardPairs(job.manifest, provider.blobs, folder)
    torch.manual_seed(job.seed)
    network, stage = _stage(job.expected, pairs, job.steps, job.seed)
    recorder = fits.Recorder()

    def told(step: int, loss: float) -> None:
        if fabric.is_global_zero and recorder.due(step, job.steps):
            try:
                with provider.database.session() as session:
                    fits.record(session, job.fit_id, step, loss)
            except DatabaseAway as error:
                # It is told at the next record: hours of fitting do not end by that.
                logger.warning("fit %s: progress not recorded: %s", job.fit_id, error)
        report(step, job.steps, f"loss {loss:.3f}")

    checkpoint = folder / "checkpoint.safetensors"
    try:
        run_stage(stage, job.seed, job.fingerprint(), checkpoint, resume, told, fabric)
    except (OSError, SafetensorError) as error:
        with provider.database.session() as session:
            # A site that withdrew took its shards along.
            fits.require_unchanged(session, session.get_one(Fit, job.fit_id))
        raise IntegrityError(f"fit {job.fit_id}: a shard is gone or damaged") from error
    return network


def _stage(
    expected: PairFormat, pairs: Sequence[ProtectedPair], steps: int, seed: int
) -> tuple[nn.Module, Stage]:
    """The network that is served, and how it is fitted."""
    rate = Recipe().learning_rate
    try:
        scheme = expected.fitting["scheme"]
        if scheme == "encoding":
            image, mask = (
                Layout.from_json(expected.fitting[f"{name}_levels"]) for name in ("image", "mask")
            )
            encodings = MappingFit(image, mask, steps, seed, rate)
            mapping = encodings.mapping()
            return mapping, encodings.stage(mapping, pairs)
    except (KeyError, TypeError) as error:
        raise IntegrityError(f"project: its format says not how to fit {expected.model}") from error
    if scheme != "mixup":
        raise IntegrityError(f"project: scheme {scheme} is not fitted to pairs here")
    (channels, *tile), classes = expected.proxy, expected.answer[0]
    segmenter = Segmenter(len(tile), channels, classes)
    stage = mixture_stage(segmenter, pairs, tuple(tile), steps, seed, rate)
    return nn.Sequential(segmenter, nn.Softmax(dim=1)), stage


def _published(provider: Provider, project: str, fit_id: int, network: nn.Module) -> int:
    base = open_server_half(provider.versions.folder(project, 1))
    with np.load(base.selftest_file, allow_pickle=False) as stored:
        nobody: Float32Array = stored["proxy"].astype(np.float32)

    def write(folder: Path, number: int) -> ServerManifest:
        known = base.manifest
        manifest = ServerManifest(
            name=known.name,
            version=str(number),
            proxy=known.proxy,
            answer=known.answer,
            fitting=known.fitting,
            peer_digest=known.peer_digest,
        )
        write_server_half(folder, manifest, network, nobody)
        return seal_server_half(folder, manifest)

    def allowed(session: Session) -> None:
        # A site that withdrew while this ran must not be in what is served; one that withdraws
        # while this is registered waits until it is.
        fits.require_unchanged(session, session.get_one(Fit, fit_id), locked=True)
        fits.end(session, fit_id, done=True)

    return provider.versions.publish(provider.database, project, fit_id, write, allowed)
