"""Training of the raw-image scheme: the accuracy ceiling."""

from pathlib import Path
from typing import Any

import torch
from numpy.random import Generator
from torch import Tensor, nn

from veilseg.datasets.cases import PreparedCase
from veilseg.networks.segmenter import Segmenter
from veilseg.payload import Float32Array
from veilseg.schemes.references import Template, synthetic_reference
from veilseg.training.examples import Arrays, one_hot
from veilseg.training.interface import SchemeTraining
from veilseg.training.losses import soft_target_loss


class PlainTraining(SchemeTraining):
    """One segmentation network on raw images.

    Parameters
    ----------
    spatial_dims, channels, classes : int
    template : Template
        For a self-test image that is nobody's.
    segmenter : Module or None
        Another network than the default: a control.
    """

    name = "plain"

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        classes: int,
        template: Template,
        segmenter: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.template = template
        self.segmenter = segmenter or Segmenter(spatial_dims, channels, classes)
        self.variant = "" if segmenter is None else type(segmenter).__name__

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:  # noqa: ARG002 - nothing random
        return {"proxy": case.image, "target": one_hot(case.labels, self.classes)}

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        logits = self.segmenter(batch["proxy"])
        return soft_target_loss(logits, batch["target"], batch.get("counted"))

    def predict(self, batch: dict[str, Tensor]) -> Tensor:
        return torch.softmax(self.segmenter(batch["proxy"]).float(), dim=1)

    @property
    def server_network(self) -> nn.Module:
        return nn.Sequential(self.segmenter, nn.Softmax(dim=1))

    def write_client_files(self, folder: Path, tile_shape: tuple[int, ...]) -> None:
        """The client half has nothing to recover: the answer is the segmentation."""

    def selftest_image(self, rng: Generator) -> Float32Array:
        return synthetic_reference(self.template, self.template.tissues.shape, rng).image

    def settings(self) -> dict[str, Any]:
        return {}
