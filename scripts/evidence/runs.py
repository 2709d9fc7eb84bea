"""Training, evaluating and shipping what the table of jobs names; what is done is not redone."""

import functools
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import safe_open

from evidence.background import run
from evidence.jobs import Evaluation, Training
from evidence.places import Places, Result, read, source_state, write
from veilseg.bundle import ClientManifest, open_client_half, open_server_half
from veilseg.datasets.layout import read_dataset
from veilseg.errors import VeilsegError
from veilseg.networks.encoders import ClientAlone
from veilseg.schemes.encoding.key import ConsortiumKey
from veilseg.schemes.mixup.client import has_synthetic_references
from veilseg.training.recipe import Recipe

VEILSEG = (sys.executable, "-m", "veilseg.cli.main")
# As training records a control.
VARIANTS = {"": "", "linear": "linear", "local": ClientAlone.__name__}
# Of the sites that train together, and how the record of a keyed run begins.
KEY_FILE, KEYED = "consortium.key", "key"
DURATION = "weights/duration.json"
# What DICOM calls the labels of data sets whose bundles are shipped; they do not say it themselves.
CODES = Path(__file__).with_name("codes")
BUNDLE_PARTS = ("client", "server", "README.md")


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    Attributes
    ----------
    steps : int
        Those that would survive a kill now.
    finished : bool
    outdated : bool
        Whether another run lies in its place: the table, the recipe or the data have changed.
    """

    steps: int = 0
    finished: bool = False
    outdated: bool = False


def progress(training: Training, places: Places) -> Progress:
    """How far this very training is; what another run left in its folder does not count."""
    folder = places.bundle(training.name)
    if not _is_its_run(training, places):
        return Progress(outdated=folder.exists())
    if _finished_bundle(folder) is not None:
        return Progress(training.steps, finished=True)
    checkpoint = folder / "weights" / "checkpoint.safetensors"
    if not checkpoint.is_file():
        return Progress()
    with safe_open(checkpoint, framework="numpy") as stored:
        return Progress(int(stored.metadata()["step"]))


def train(training: Training, places: Places) -> None:
    """Train unless it is done, going on from a checkpoint where there is one.

    An outdated run is put aside; the one before it is removed.
    """
    if trained(training, places) is not None:
        return
    folder = places.bundle(training.name)
    found = progress(training, places)
    if found.outdated:
        aside = folder.with_name(f"{folder.name}.old")
        print(f"{training.name}: not the run that is asked for now: moved to {aside.name}")
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
    source = places.data / training.data.folder
    started = time.monotonic()
    options = [*training.options(), *(key_options(places) if training.keyed else ())]
    if (codes := CODES / f"{training.data.name}.json").is_file():
        options += ["--label-codes", str(codes)]
    if training.init is not None:
        train(training.init, places)
        options += ["--init", str(trained(training.init, places))]
    run(*VEILSEG, "train", source, "--out", folder, "--resume", *options)
    if found.steps == 0:
        minutes = round((time.monotonic() - started) / 60, 2)
        write(folder / DURATION, {"minutes": minutes, "cores": os.cpu_count()})


def trained(training: Training, places: Places) -> Path | None:
    """The bundle of a finished training, in the work folder or shipped; None if there is none."""
    if progress(training, places).finished:
        return places.bundle(training.name)
    shipped = places.models / training.name
    manifest = _finished_bundle(shipped)
    if manifest is None:
        return None
    record = _record(manifest.provenance, manifest.scheme)
    return shipped if _is_run(record, training, places) else None


def duration(training: Training, places: Places) -> Result:
    """Minutes and cores of a training in one piece; of a resumed one, nothing is known."""
    return read(places.bundle(training.name) / DURATION) or {}


def evaluate(evaluation: Evaluation, training: Training, places: Places, again: bool) -> None:
    """Evaluate a trained bundle unless its evaluation is there."""
    if evaluated(evaluation, training, places) is not None and not again:
        return
    folder = trained(training, places) or places.bundle(training.name)
    source = places.data / training.data.folder
    manifest = open_client_half(folder).manifest
    file = places.evaluation(evaluation.name)
    file.parent.mkdir(parents=True, exist_ok=True)
    options = [*evaluation.options(), *(key_options(places) if training.keyed else ())]
    if not synthetic(manifest):
        # With --split test only its training patients are mixed in.
        options += ["--references", str(source)]
    commit = source_state()
    part = file.with_suffix(".part")
    run(*VEILSEG, "evaluate", folder, source, *options, "--json", part)
    found = read(part) or {}
    known = {
        "steps": training.steps,
        "seed": training.seed,
        "validation_dice": manifest.metrics.get("validation_dice"),
        "commit": commit,
    }
    write(file, {**found, **known, "training": duration(training, places)})
    part.unlink()


def evaluated(evaluation: Evaluation, training: Training, places: Places) -> Result | None:
    """The evaluation of what this training made; None if there is none.

    One that is published counts without its bundle: it says itself what run it is of.
    """
    bundle = trained(training, places)
    manifest = None if bundle is None else open_client_half(bundle).manifest
    for file in places.kept(evaluation.name):
        found = read(file)
        if found is None:
            continue
        if manifest is not None:
            ours = found["bundle_id"] == manifest.bundle_id
        else:
            ours = is_of(found, training, places)
        if ours:
            return found
    return None


def is_of(found: Result, training: Training, places: Places) -> bool:
    """Whether an evaluation says itself that it is of this training on these data."""
    return _is_run(_record(found["provenance"], found["scheme"]), training, places)


def ship(name: str, found: Result, places: Places) -> None:
    """Copy an evaluated bundle without its weights to ``models/``, whole or not at all."""
    source, target = places.bundle(name), places.models / name
    if is_shipped(name, found, places):
        return
    new, old = (places.models / f".{name}.{what}" for what in ("new", "old"))
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    new.mkdir(parents=True)
    for part in BUNDLE_PARTS:
        copy = shutil.copytree if (source / part).is_dir() else shutil.copyfile
        copy(source / part, new / part)
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    print(f"{name}: shipped")


def is_shipped(name: str, found: Result, places: Places) -> bool:
    """Whether ``models/`` has the bundle that was evaluated."""
    there = _finished_bundle(places.models / name)
    return there is not None and there.bundle_id == found["bundle_id"]


def _finished_bundle(folder: Path) -> ClientManifest | None:
    """The manifest of a bundle whose halves verify and belong together."""
    try:
        client, server = open_client_half(folder), open_server_half(folder)
    except VeilsegError:
        return None
    whole = client.manifest.bundle_id == server.manifest.bundle_id
    return client.manifest if whole and (folder / "README.md").is_file() else None


def _is_its_run(training: Training, places: Places) -> bool:
    """Whether the folder's ``run.json`` is of this training on these data."""
    recorded = read(places.bundle(training.name) / "weights" / "run.json")
    if recorded is None:
        return False
    # Half of a run is not gone on with by another recipe, even where that makes no difference.
    finished = _finished_bundle(places.bundle(training.name)) is not None
    return _is_run(recorded, training, places, finished)


def _record(provenance: Mapping[str, Any], scheme: str) -> Result:
    """What a bundle says of its training, as the training recorded it."""
    of_start = (provenance.get("init") or {}).get("bundle_id", "")
    fields = {name: "" if value is None else value for name, value in provenance.items()}
    return {**fields, "scheme": scheme, "init": of_start}


def _is_run(recorded: Result, training: Training, places: Places, finished: bool = True) -> bool:
    """Whether this is the record of this training on these data."""
    recipe = Recipe()
    # Small tiles, of which a step takes several, are never cut, whatever share of the steps large
    # ones are: what is finished is as good.
    if finished and recorded.get("batch", 1) > 1:
        share = recorded.get("recipe", {}).get("cropped_share", recipe.cropped_share)
        recipe = replace(recipe, cropped_share=share)
    if training.scheme == "mixup":
        recipe = replace(
            recipe,
            unmixing="algebraic" if training.unmixing == "algebraic" else "learned",
            coefficient_range=training.coefficients,
        )
    variant = VARIANTS[training.control]
    if training.keyed:
        variant = _keyed(str(recorded.get("variant", "")), places)
    wanted = {
        "scheme": training.scheme,
        "steps": training.steps,
        "seed": training.seed,
        "fold": training.fold,
        "init": "" if training.init is None else _id_of(training.init, places),
        "variant": variant,
        "data_sha256": content_hash(places.data / training.data.folder),
        "recipe": json.loads(json.dumps(asdict(recipe))),
    }
    return {name: recorded.get(name, "") for name in wanted} == wanted


def _id_of(training: Training, places: Places) -> str | None:
    """Of the bundle that a training made, though only its evaluation may be left; or None."""
    bundle = trained(training, places)
    if bundle is not None:
        return open_client_half(bundle).manifest.bundle_id
    found = evaluated(Evaluation(training.name, training.name), training, places)
    return None if found is None else str(found["bundle_id"])


def _keyed(recorded: str, places: Places) -> str:
    """What the record of a keyed run has to say: by another key is another run. Where there is no
    key yet, published results of any are as good; it stayed where they were made."""
    path = places.work / KEY_FILE
    if path.is_file():
        return f"{KEYED} {ConsortiumKey.read(path).fingerprint()}"
    return recorded if recorded.startswith(f"{KEYED} ") else KEYED


def key_options(places: Places) -> list[str]:
    """The option of whatever is keyed; the key is made once and stays with the work."""
    path = places.work / KEY_FILE
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        ConsortiumKey.new().write(path)
    return ["--key", str(path)]


@functools.cache
def content_hash(dataset: Path) -> str:
    """Of a data set; it is read once."""
    return read_dataset(dataset).content_hash()


def synthetic(manifest: ClientManifest) -> bool:
    """Whether a site needs no labelled cases to mix in."""
    return manifest.scheme != "mixup" or has_synthetic_references(manifest)
