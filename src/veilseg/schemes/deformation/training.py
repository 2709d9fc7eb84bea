"""Training of ``deformation`` (after arXiv:2011.12835): generator and network against a Siamese
discriminator; decision 0032 says what differs from the paper."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from veilseg.datasets.cases import PreparedCase
from veilseg.schemes.adversarial import AdversarialTraining, Shown
from veilseg.schemes.deformation.client import GENERATOR_FILE
from veilseg.schemes.deformation.field import code_shape
from veilseg.schemes.deformation.generator import VelocityGenerator, displacement, warped
from veilseg.schemes.references import Template
from veilseg.schemes.strength import DEFAULT_STRENGTHS, variant_of
from veilseg.training.export import export_onnx
from veilseg.training.loader import Batch
from veilseg.training.run import Run
from veilseg.training.stage import Prepare

DEFAULT_STRENGTH = DEFAULT_STRENGTHS["deformation"]


@dataclass(frozen=True)
class WithCodes:
    """Two secrets for each example, by the step and its place in the batch.

    So a resumed run draws what an unbroken one did, and several processes what one does. Tiles are
    not cut into parts: a deformation is one of the whole.
    """

    seed: int

    def __call__(self, batch: Batch, step: int, *, steps: int, rank: int) -> Batch:  # noqa: ARG002 - one interface
        image = batch["image"]
        shape = 2, *code_shape(image.ndim - 2)
        codes = [
            np.random.default_rng([self.seed, 41, step, place]).standard_normal(shape, np.float32)
            for place in range(rank * len(image), (rank + 1) * len(image))
        ]
        first, again = torch.from_numpy(np.stack(codes, axis=1))
        return batch | {"code": first, "code_again": again}


class DeformationTraining(AdversarialTraining):
    """A generator of deformations, against a discriminator of deformed images and masks.

    Parameters
    ----------
    spatial_dims, channels, classes : int
    template : Template
        For a self-test image that is nobody's.
    cases : sequence of PreparedCase
        Whom the discriminator is to tell apart.
    strength : float
        Of a deformation, as a share of the image's side.
    """

    name = "deformation"

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        classes: int,
        template: Template,
        cases: Sequence[PreparedCase],
        strength: float = DEFAULT_STRENGTH,
    ) -> None:
        # Of the mask, too, the paper's discriminator is not to learn who it is.
        judged = channels + classes
        super().__init__(spatial_dims, channels, classes, template, cases, judged)
        self.strength = strength
        self.generator = VelocityGenerator(spatial_dims, strength)
        self.variant = variant_of(strength)

    def prepare(self, run: Run) -> Prepare:
        return WithCodes(run.seed)

    def shown(self, batch: Batch, again: bool = False) -> Shown:
        suffix = "_again" if again else ""
        image, target = batch[f"image{suffix}"], batch[f"target{suffix}"]
        moved = displacement(self._velocity(batch, suffix), image.shape[2:])
        both = warped(torch.cat([image, target], dim=1), moved)
        return Shown(both[:, : image.shape[1]], both[:, image.shape[1] :])

    def judged(self, shown: Shown) -> Tensor:
        return torch.cat([shown.proxy, shown.target], dim=1)

    def predict(self, batch: Batch) -> Tensor:
        answer = self.answered(self.shown(batch).proxy)
        return warped(answer, displacement(-self._velocity(batch, ""), answer.shape[2:]))

    def _velocity(self, batch: Batch, suffix: str) -> Tensor:
        image = batch["image"]
        code = batch.get(f"code{suffix}")
        if code is None:  # to validate by, and for the self-test: the same for all
            generator = torch.Generator().manual_seed(0)
            code = torch.randn((1, *code_shape(image.ndim - 2)), generator=generator)
            code = code.expand(len(image), *code.shape[1:]).to(image)
        found: Tensor = self.generator(code)
        return found

    def write_client_files(self, folder: Path, tile_shape: tuple[int, ...]) -> None:
        rng = torch.Generator().manual_seed(0)
        code = torch.randn((1, *code_shape(len(tile_shape))), generator=rng)
        # Named as here, so that another training can start from it.
        network = nn.Sequential(OrderedDict(generator=self.generator))
        export_onnx(network, folder / GENERATOR_FILE, {"code": code}, "velocity")

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"strength": self.strength}
