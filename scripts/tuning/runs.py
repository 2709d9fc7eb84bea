"""Train and validate one experiment with the package's own parts."""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evidence.jobs import SEED
from evidence.places import Places, Result, source_state
from lightning_fabric import Fabric
from monai.transforms import Compose, RandGaussianNoise, RandGaussianSmooth
from torch import Tensor
from torch.utils.data import ConcatDataset

import veilseg
from tuning.losses import TriedMixup
from tuning.mixtures import SeveralReferences
from tuning.networks import SEGMENTERS, multiply_adds_per_voxel, optimizers_of
from tuning.table import TRIED, Experiment
from tuning.unmixers import unmixer
from veilseg.datasets.cases import prepare_case
from veilseg.datasets.layout import Dataset, read_dataset
from veilseg.datasets.split import split_by_patient
from veilseg.evaluation.dice import dice_per_class, mean_foreground
from veilseg.files import written_whole
from veilseg.networks.unmixer import algebraic_solution
from veilseg.schemes.mixup.training import UNMIXER_INPUTS, MixupTraining
from veilseg.schemes.trainable import TRAINABLE
from veilseg.training.allocator import keep_freed_memory
from veilseg.training.batches import Examples
from veilseg.training.convolution import right_gradients
from veilseg.training.crops import cropped
from veilseg.training.examples import one_hot
from veilseg.training.interface import SchemeTraining
from veilseg.training.loader import batches
from veilseg.training.loop import LARGEST_GRADIENT_NORM, learning_rate_factor
from veilseg.training.plan import plan_and_prepare
from veilseg.training.processes import launch
from veilseg.training.recipe import Recipe

REFERENCES_PER_CASE = 3  # of a validation image; a raw one is validated once
FIRST_VALIDATION_SEED = 1000
AVERAGE_DECAY = 0.99
# What of an experiment, and which folders of the package, decide how an example looks.
OF_EXAMPLES = ("scheme", "labelled_share", "coefficients", "references", "augmentation")
MAKES_EXAMPLES = ("datasets", "imaging", "schemes", "training")
LABELS = ("target", "reference_labels")

Report = Callable[[int, float], None]


class Kept(Examples):
    """Examples that are made once and read from a folder after that, as sixteen-bit numbers."""

    def __init__(self, folder: Path, classes: int, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.folder, self.classes = folder, classes
        folder.mkdir(parents=True, exist_ok=True)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        file = self.folder / f"{number:06d}.npz"
        if not file.is_file():
            made = super().__getitem__(number)
            with written_whole(file) as temporary:
                np.savez(temporary, **{name: _packed(name, made[name]) for name in made})
        with np.load(file) as stored:
            return {name: _unpacked(stored[name], self.classes) for name in stored.files}


def run(experiment: Experiment, places: Places, work: Path, report: Report) -> Result:
    """Train, validate, and describe what came out. Test patients are not used."""
    dataset = read_dataset(places.data / experiment.data)
    split = split_by_patient(dataset)
    plan, cases = plan_and_prepare(dataset, split.train, lambda *_: None)
    classes = len(dataset.labels)
    held = [
        prepare_case(case, classes, plan.spacing_mm, plan.intensity, plan.tile_shape)
        for case in split.validation
    ]

    def build(share: float, coefficients: tuple[float, float]) -> SchemeTraining:
        recipe = Recipe(
            learning_rate=experiment.learning_rate,
            unmixing_weight=experiment.unmixing_weight,
            labelled_share=share,
            coefficient_range=coefficients,
        )
        scheme = TRAINABLE[experiment.scheme](dataset, plan, cases, SEED, recipe)
        if experiment.references == 1:
            return scheme
        assert isinstance(scheme, MixupTraining), "only mixtures have references"
        assert not share, "only synthetic references are averaged"
        kinds = dataset.spatial_dims, len(dataset.channels), len(dataset.labels)
        return SeveralReferences(
            experiment.references, *kinds, scheme.template, scheme.cases, scheme.recipe
        )

    scheme = build(experiment.labelled_share, experiment.coefficients)
    data_sha256 = dataset.content_hash()
    folder = work / _key(experiment, data_sha256)
    count = experiment.steps * experiment.batch
    examples = Kept(folder, classes, scheme, cases, plan.tile_shape, count, SEED)
    if experiment.augmentation == "light":
        _lighten(examples)
    networks = _with_networks(scheme, experiment, dataset)
    fabric = launch()
    with right_gradients(networks):
        loss, average = _fit(networks, examples, experiment, fabric, report)
    draws = REFERENCES_PER_CASE if experiment.scheme == "mixup" else 1
    validating = build(0.0, (0.5, 0.5))
    mixtures = ConcatDataset(
        Examples(
            validating,
            held,
            plan.tile_shape,
            len(held),
            FIRST_VALIDATION_SEED + draw,
            augment=False,
        )
        for draw in range(draws)
    )
    dice, sha256 = _validate(networks, mixtures, dataset, fabric)
    for weight, mean in zip(networks.parameters(), average, strict=True):
        weight.data.copy_(mean)
    averaged, _ = _validate(networks, mixtures, dataset, fabric)
    return {
        "seed": SEED,
        "data_sha256": data_sha256,
        "loss": round(loss, 4),
        # Of what a bundle would hold: heads are for training alone.
        "parameters": sum(
            weight.numel()
            for name, weight in networks.named_parameters()
            if not name.startswith("heads")
        ),
        "segmenter_multiply_adds_per_voxel": multiply_adds_per_voxel(
            experiment.segmenter, len(plan.tile_shape), len(dataset.channels), classes
        ),
        "validations": [
            {
                "mixtures_sha256": sha256,
                "n": len(mixtures),
                "n_cases": len(held),
                "n_patients": len({case.patient for case in held}),
                "dice": dice,
                "dice_of_average": averaged,
            }
        ],
        "commit": source_state(),
    }


def _with_networks(
    scheme: SchemeTraining, experiment: Experiment, dataset: Dataset
) -> SchemeTraining:
    """The scheme with the networks of the experiment, from the same seed."""
    torch.manual_seed(SEED)
    kinds = dataset.spatial_dims, len(dataset.channels), len(dataset.labels)
    if any(getattr(experiment, name) for name in TRIED):
        assert isinstance(scheme, MixupTraining), "only tried of mixtures"
        scheme = TriedMixup(experiment, *kinds, scheme.template, scheme.cases, scheme.recipe)
    scheme.segmenter = SEGMENTERS[experiment.segmenter](*kinds)
    if experiment.scheme == "mixup":
        scheme.unmixer = unmixer(experiment.unmixer, *kinds)
    if experiment.deep_supervision:
        assert isinstance(scheme, TriedMixup)
        scheme.supervise(dataset.spatial_dims)
    return scheme


def _fit(
    scheme: SchemeTraining,
    examples: Examples,
    experiment: Experiment,
    fabric: Fabric,
    report: Report,
) -> tuple[float, list[Tensor]]:
    """As the package's loop, without checkpoints; also the running average of the weights."""
    keep_freed_memory()
    flat = len(examples.tile_shape) == 2
    scheme.to(memory_format=torch.channels_last if flat else torch.channels_last_3d)
    module = fabric.setup_module(scheme)
    moved_by = optimizers_of(experiment.optimizer, scheme, experiment.learning_rate)
    weights = [weight.detach() for weight in scheme.parameters()]
    average = [weight.clone() for weight in weights]
    smoothed = math.nan

    def prepare(batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        whole = step >= experiment.cropped_share * experiment.steps
        return batch if whole else cropped(batch, examples.tile_shape, step, SEED)

    for step, batch in enumerate(batches(examples, experiment.batch, prepare=prepare)):
        rate = experiment.learning_rate * learning_rate_factor(step, experiment.steps)
        for optimizer in moved_by:
            for group in optimizer.param_groups:
                group["lr"] = rate
        loss = module(fabric.to_device(batch))
        fabric.backward(loss)
        torch.nn.utils.clip_grad_norm_(module.parameters(), LARGEST_GRADIENT_NORM)
        for optimizer in moved_by:
            optimizer.step()
        module.zero_grad()
        # The first steps are not worth remembering.
        decay = min(AVERAGE_DECAY, (1 + step) / (10 + step))
        torch._foreach_lerp_(average, weights, 1 - decay)
        value = float(loss.detach())
        smoothed = value if math.isnan(smoothed) else 0.95 * smoothed + 0.05 * value
        report(step + 1, smoothed)
    return smoothed, average


@torch.no_grad()
def _validate(
    scheme: SchemeTraining,
    mixtures: ConcatDataset[dict[str, Tensor]],
    dataset: Dataset,
    fabric: Fabric,
) -> tuple[dict[str, Any], str]:
    """Dice by kind of unmixing, mean and per class, and the SHA-256 of what was segmented."""
    digest = hashlib.sha256()
    scores: dict[str, list[tuple[float, ...]]] = {}
    for number in range(len(mixtures)):
        example = mixtures[number]
        digest.update(example["proxy"].half().numpy().tobytes())
        batch = fabric.to_device({name: tensor[None] for name, tensor in example.items()})
        with fabric.autocast():
            answer = torch.softmax(scheme.segmenter(batch["proxy"]).float(), dim=1)
            found = {"plain": answer}
            if scheme.name == "mixup":
                given = [batch[name] for name in UNMIXER_INPUTS]
                found = {"algebraic": algebraic_solution(answer, given[0], given[2])}
                if scheme.unmixer is not None:
                    found["learned"] = scheme.unmixer(answer, *given)
        truth = example["target"].argmax(dim=0).numpy()
        for kind, maps in found.items():
            labels = maps[0].argmax(dim=0).cpu().numpy()
            one = dice_per_class(labels, truth, len(dataset.labels))
            scores.setdefault(kind, []).append(one)
    names = [label.name for label in dataset.labels[1:]]
    dice = {
        kind: {
            "mean": round(mean_foreground([mean_foreground(one) for one in all_cases]), 4),
            "per_class": {
                name: round(mean_foreground(values), 3)
                for name, values in zip(names, zip(*all_cases, strict=True), strict=True)
            },
        }
        for kind, all_cases in scores.items()
    }
    return dice, digest.hexdigest()


def _lighten(examples: Examples) -> None:
    """Leave smoothing and noise out of the augmentation."""
    assert examples.augmentation is not None, "training examples are augmented"
    kept = [
        transform
        for transform in examples.augmentation.contrast.transforms
        if not isinstance(transform, RandGaussianSmooth | RandGaussianNoise)
    ]
    examples.augmentation.contrast = Compose(kept)


def _key(experiment: Experiment, data_sha256: str) -> str:
    """Name of the folder of examples: another law, other data or other code have another."""
    digest = hashlib.sha256(data_sha256.encode())
    fields = asdict(experiment)
    digest.update(json.dumps([fields[name] for name in OF_EXAMPLES]).encode())
    package = Path(veilseg.__file__).parent
    for folder in MAKES_EXAMPLES:
        for file in sorted((package / folder).rglob("*.py")):
            digest.update(file.read_bytes())
    return f"{experiment.data}-{experiment.scheme}-{digest.hexdigest()[:12]}"


def _packed(name: str, tensor: Tensor) -> np.ndarray:
    array = tensor.numpy()
    if name in LABELS and np.isin(array, (0, 1)).all():  # of several references it is a share
        return array.argmax(axis=0).astype(np.uint8)
    return array.astype(np.float16) if array.ndim else array


def _unpacked(array: np.ndarray, classes: int) -> Tensor:
    if array.dtype == np.uint8:
        return torch.from_numpy(one_hot(array, classes))
    return torch.from_numpy(array.astype(np.float32)) if array.ndim else torch.tensor(float(array))
