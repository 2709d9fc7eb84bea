"""End-to-end training of both networks of Mixup-Privacy (arXiv:2305.13756; method.md §1)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.random import Generator
from torch import Tensor, nn

from veilseg.datasets.cases import PreparedCase
from veilseg.networks.segmenter import Segmenter
from veilseg.networks.unmixer import Unmixer, algebraic_solution
from veilseg.payload import Float32Array
from veilseg.schemes.mixup.mixing import mix
from veilseg.schemes.population import represents
from veilseg.schemes.references import (
    TEMPLATE_FILE,
    UNMIXER_FILE,
    Reference,
    Template,
    labelled_reference,
    synthetic_reference,
)
from veilseg.training.examples import Arrays, one_hot
from veilseg.training.export import export_onnx
from veilseg.training.interface import SchemeTraining
from veilseg.training.losses import soft_target_loss
from veilseg.training.recipe import Recipe

DEFAULT_COEFFICIENT = 0.5
# What D is given beside the answer, by its name in a batch.
UNMIXER_INPUTS = ("reference_labels", "reference", "coefficient")


class MixupTraining(SchemeTraining):
    """Segmentation network and unmixing network, fitted together.

    ``L(S(z), m) + λ·L(D(S(z), y_r, r, a), y)`` with ``z = a·x + (1 − a)·r`` and
    ``m = a·y + (1 − a)·y_r``; a and r are drawn anew for each example. The algebraic baseline has
    no D and is trained for itself: ``L(S(z), m)`` alone.

    Parameters
    ----------
    spatial_dims, channels, classes : int
    template : Template
        For synthetic references. One whose labels lie at no common place serves the self-test
        alone: references are labelled cases then.
    cases : sequence of PreparedCase
        For labelled references of other patients.
    recipe : Recipe
    """

    name = "mixup"

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        classes: int,
        template: Template,
        cases: Sequence[PreparedCase],
        recipe: Recipe,
    ) -> None:
        super().__init__()
        self.channels, self.classes = channels, classes
        self.template, self.cases, self.recipe = template, cases, recipe
        self.synthetic = represents(template, cases)
        # Without foreground a reference would leave the patient's mask alone in the answer.
        self._bases = [case for case in cases if case.labels.any()]
        self.segmenter = Segmenter(spatial_dims, channels, classes)
        self.unmixer = (
            Unmixer(spatial_dims, channels, classes) if recipe.unmixing == "learned" else None
        )

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:
        coefficient = rng.uniform(*self.recipe.coefficient_range)
        shape = case.labels.shape
        others = [other for other in self._bases if other.patient != case.patient]
        if others and (not self.synthetic or rng.uniform() < self.recipe.labelled_share):
            other = others[rng.integers(len(others))]
            reference = labelled_reference(Reference(other.image, other.labels), shape, rng)
        else:
            reference = synthetic_reference(self.template, shape, rng)
        mixture, reference = mix(case.image, reference, coefficient, rng)
        return {
            "proxy": mixture,
            "target": one_hot(case.labels, self.classes),
            "reference": reference.image,
            "reference_labels": one_hot(reference.labels, self.classes),
            "coefficient": torch.tensor(coefficient, dtype=torch.float32).numpy(),
        }

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        a = batch["coefficient"].reshape(-1, *[1] * (batch["target"].ndim - 1))
        mixed_target = a * batch["target"] + (1 - a) * batch["reference_labels"]
        mixture_logits = self.segmenter(batch["proxy"])
        counted = batch.get("counted")
        mixture_loss = soft_target_loss(mixture_logits, mixed_target, counted)
        if self.unmixer is None:
            return mixture_loss
        answer = torch.softmax(mixture_logits.float(), dim=1)
        logits = self.unmixer(answer, *(batch[name] for name in UNMIXER_INPUTS))
        unmixing_loss = soft_target_loss(logits, batch["target"], counted)
        # A mean, so that learning rate and gradient norm mean the same at any weight.
        weight = self.recipe.unmixing_weight
        return (mixture_loss + weight * unmixing_loss) / (1 + weight)

    def predict(self, batch: dict[str, Tensor]) -> Tensor:
        answer = torch.softmax(self.segmenter(batch["proxy"]).float(), dim=1)
        held = [batch[name] for name in UNMIXER_INPUTS]
        if self.unmixer is None:
            labels, _, coefficient = held
            return algebraic_solution(answer, labels, coefficient)
        return self.unmixer.probabilities(answer, *held)

    @property
    def server_network(self) -> nn.Module:
        return nn.Sequential(self.segmenter, nn.Softmax(dim=1))

    def write_client_files(self, folder: Path, tile_shape: tuple[int, ...]) -> None:
        if self.synthetic:
            self.template.save(folder / TEMPLATE_FILE)
        if self.unmixer is None:
            return
        # Each input random and its own: the export is compared with torch at these values, and
        # inputs that are one tensor would be traced as one input.
        rng = torch.Generator().manual_seed(0)
        logits = 4 * torch.randn((2, self.classes, *tile_shape), generator=rng)
        answer = torch.softmax(logits[:1], dim=1)
        reference_labels = _strongest(logits[1:])
        reference = torch.rand((1, self.channels, *tile_shape), generator=rng)
        export_onnx(
            _Probabilities(self.unmixer),
            folder / UNMIXER_FILE,
            {
                "answer": answer,
                "reference_labels": reference_labels,
                "reference": reference,
                "coefficient": torch.tensor([DEFAULT_COEFFICIENT]),
            },
            "probabilities",
        )

    def selftest_image(self, rng: Generator) -> Float32Array:
        shape = self.template.tissues.shape
        patient, reference = (synthetic_reference(self.template, shape, rng) for _ in range(2))
        mixture, _ = mix(patient.image, reference, DEFAULT_COEFFICIENT, rng)
        return mixture

    def fitting(self) -> dict[str, Any]:
        return {"scheme": self.name}

    def settings(self) -> dict[str, Any]:
        return {
            "coefficient": DEFAULT_COEFFICIENT,
            "coefficient_range": list(self.recipe.coefficient_range),
            "unmixing": self.recipe.unmixing,
            "references": ["synthetic", "labelled"] if self.synthetic else ["labelled"],
        }


def _strongest(logits: Tensor) -> Tensor:
    """The strongest class of (N, K, …) logits, one-hot."""
    strongest = logits.argmax(dim=1, keepdim=True)
    return torch.zeros_like(logits).scatter_(1, strongest, 1.0)


class _Probabilities(nn.Module):
    """The unmixer as it is exported."""

    def __init__(self, unmixer: Unmixer) -> None:
        super().__init__()
        self.unmixer = unmixer

    def forward(
        self, answer: Tensor, reference_labels: Tensor, reference: Tensor, coefficient: Tensor
    ) -> Tensor:
        return self.unmixer.probabilities(answer, reference_labels, reference, coefficient)
