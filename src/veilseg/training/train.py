"""``veilseg train`` from end to end: data → plan → fit → validate → bundle."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from veilseg.bundle import open_client_half
from veilseg.datasets.cases import PreparedCase, prepare_case
from veilseg.datasets.layout import Dataset, read_dataset, with_codes
from veilseg.datasets.lineage import has_seen_held_out, runs_behind, same_patients
from veilseg.datasets.split import Fold, Split, split_by_patient
from veilseg.errors import BundleIntegrity, InvalidInput, OutputNotWritable, WrongUsage
from veilseg.evaluation.dice import dice_per_class, mean_foreground
from veilseg.files import write_text_whole
from veilseg.training.batches import Examples
from veilseg.training.interface import SchemeTraining
from veilseg.training.loop import fit
from veilseg.training.pace import seconds_per_step
from veilseg.training.plan import Plan, plan_and_prepare
from veilseg.training.processes import launch
from veilseg.training.recipe import Recipe
from veilseg.training.run import Run, batch_size
from veilseg.training.start import start_from
from veilseg.training.write import write_bundle

DEFAULT_STEPS = 1000
Report = Callable[[str, int, int, str], None]
Build = Callable[[Dataset, Plan, Sequence[PreparedCase], int, Recipe], SchemeTraining]


def train(
    folder: Path,
    build: Build,
    out: Path,
    *,
    steps: int | None,
    minutes: float | None,
    seed: int,
    resume: bool,
    init: Path | None,
    fold: Fold | None,
    recipe: Recipe,
    licence: str,
    label_codes: Path | None = None,
    report: Report,
) -> str | None:
    """Train both halves of a scheme on a data set and write a bundle.

    Under ``torchrun`` every process runs this; the first alone writes.

    Parameters
    ----------
    folder : Path
        Data set in the nnU-Net raw layout.
    build : callable
        Makes the scheme from data set, plan, prepared training cases, seed and recipe.
    out : Path
        Bundle folder. ``weights/`` in it holds the checkpoint while training goes on.
    steps, minutes : one of them, or neither
        Minutes are turned into steps once, recorded in ``weights/run.json``, and not looked
        at again when the run is resumed.
    seed : int
    resume : bool
        Go on from the checkpoint, if there is one.
    init : Path or None
        Trained bundle whose weights to start from: a fine-tuning.
    fold : Fold or None
        Which patients are held out; None for the default split.
    recipe : Recipe
    licence : str
    label_codes : Path or None
        Codes of the labels, in place of those that the data set gives.
    report : callable
        Called with (what, done, total, note), in every process.

    Returns
    -------
    str or None
        The bundle id; None in all processes but the first.

    Raises
    ------
    WrongUsage
        For options that contradict each other or the run to resume, or a start that has seen
        patients who are held out.
    InvalidInput
        For data that cannot be used, or an ``out`` that holds something already.
    BundleIntegrity
        If the checkpoint belongs to another run, or the start is damaged or of other networks.
    """
    if steps is not None and minutes is not None:
        raise WrongUsage("--steps and --minutes: give one of them")
    checkpoint = out / "weights" / "checkpoint.safetensors"
    if out.exists() and not out.is_dir():
        raise OutputNotWritable(f"{out}: is not a folder")
    if not resume and (checkpoint.exists() or (out / "client").exists()):
        raise InvalidInput(
            f"{out}: holds a bundle or checkpoint already: --resume, or another --out"
        )
    fabric = launch()
    dataset = read_dataset(folder)
    if label_codes is not None:
        dataset = with_codes(dataset, label_codes)
    split = split_by_patient(dataset, fold)
    data_sha256 = dataset.content_hash()
    start = None if init is None else _start(init, dataset, data_sha256, fold)
    plan, cases = plan_and_prepare(
        dataset, split.train, lambda done, total: report("preparing", done, total, "")
    )
    # Now, not when they are needed: an image that cannot be used costs no training.
    validation = [
        prepare_case(case, len(dataset.labels), plan.spacing_mm, plan.intensity, plan.tile_shape)
        for case in split.validation
    ]
    torch.manual_seed(seed)
    scheme = build(dataset, plan, cases, seed, recipe)
    if init is not None:
        start_from(init, scheme)
    run = Run(
        scheme.name,
        steps or DEFAULT_STEPS,
        seed,
        batch_size(plan.tile_shape),
        plan.tile_shape,
        data_sha256,
        recipe,
        "" if start is None else str(start["bundle_id"]),
        "" if fold is None else str(fold),
        scheme.variant,
        dataset.patients_hash(),
    )
    try:
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputNotWritable(f"{out}: cannot be written: {error.strerror}") from error
    record = checkpoint.with_name("run.json")
    run = _recorded(run, record, scheme, cases, steps, minutes, resume, fabric)

    def encoding(done: int, total: int) -> None:
        report("encoding", done, total, "")

    for stage in scheme.stages(cases, run, plan.spacing_mm, encoding):
        what = f"training {stage.name}".rstrip()
        fit(
            stage,
            run.seed,
            run.fingerprint(),
            checkpoint.with_stem(f"{checkpoint.stem}-{stage.name}".rstrip("-")),
            resume,
            lambda done, loss, what=what, stage=stage: report(  # type: ignore[misc]  # mypy sees no defaults
                what, done, stage.steps, f"loss {loss:.3f}"
            ),
            fabric,
        )
    if not fabric.is_global_zero:
        return None
    scheme.cpu()  # examples to validate by, and the exporter, are there
    dice = validation_dice(scheme, validation, plan, report)
    report("writing", 0, 1, "")
    bundle_id = write_bundle(
        out, dataset, scheme, plan, run, start, licence, _split_sizes(split), dice
    )
    report("writing", 1, 1, "")
    return bundle_id


def validation_dice(
    scheme: SchemeTraining, cases: Sequence[PreparedCase], plan: Plan, report: Report
) -> float:
    """Mean foreground Dice of one tile per validation case, in torch, before any export."""
    examples = Examples(scheme, cases, plan.tile_shape, len(cases), seed=0, augment=False)
    scores = []
    scheme.eval()
    for number in range(len(cases)):
        batch = {name: tensor[None] for name, tensor in examples[number].items()}
        with torch.no_grad():
            found = scheme.predict(batch)[0].argmax(dim=0)
        truth = batch["target"][0].argmax(dim=0)
        classes = len(batch["target"][0])
        scores.append(mean_foreground(dice_per_class(found.numpy(), truth.numpy(), classes)))
        report("validating", number + 1, len(cases), "")
    return mean_foreground(scores)


def _start(init: Path, dataset: Dataset, data_sha256: str, fold: Fold | None) -> dict[str, Any]:
    """What the new bundle says of where its weights come from."""
    manifest = open_client_half(init).manifest
    of_these = any(
        run.get("data_sha256") == data_sha256 for run in runs_behind(manifest.provenance)
    )
    if of_these and not same_patients(manifest.provenance, dataset.patients_hash()):
        raise WrongUsage(
            f"--init {init}: was trained on these data with other patients in cases.csv: it may "
            "have seen whom this run holds out"
        )
    if has_seen_held_out(manifest.provenance, data_sha256, None if fold is None else str(fold)):
        raise WrongUsage(
            f"--init {init}: was trained on another fold of these data: it has seen patients "
            "whom this run holds out"
        )
    return {"bundle_id": manifest.bundle_id, "provenance": manifest.provenance}


def _recorded(
    run: Run,
    record: Path,
    scheme: SchemeTraining,
    cases: Sequence[PreparedCase],
    steps: int | None,
    minutes: float | None,
    resume: bool,
    fabric: Fabric,
) -> Run:
    """Fix the number of steps once and write down what defines the run."""
    if resume and record.is_file():
        try:
            stored = json.loads(record.read_text(encoding="utf-8"))
            known = replace(run, steps=int(stored["steps"]))
        except (ValueError, KeyError, TypeError) as error:
            raise BundleIntegrity(f"{record}: damaged: no number of steps") from error
        if steps not in (None, known.steps):
            raise WrongUsage(f"--steps {steps}: the run to resume has {known.steps}")
        fields = json.loads(json.dumps(asdict(known)))
        if other := [name for name in fields if fields[name] != stored.get(name, "")]:
            raise WrongUsage(f"{record}: the run to resume has another {', '.join(other)}")
        return known
    if minutes is not None:
        seconds = fabric.broadcast(seconds_per_step(scheme, cases, run, record.parent, fabric))
        run = replace(run, steps=max(1, round(minutes * 60 / seconds)))
    fabric.barrier()
    if fabric.is_global_zero:
        write_text_whole(record, json.dumps(asdict(run), indent=2) + "\n")
    return run


def _split_sizes(split: Split) -> dict[str, int]:
    return {
        "train": len(split.train),
        "validation": len(split.validation),
        "test": len(split.test),
    }
