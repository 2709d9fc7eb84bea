"""What trainings against an identity discriminator have in common.

The server's network learns to segment proxies, the discriminator to say whether two proxies are of
one person, and what makes the proxies to let the first and not the second. In one backward pass:
the gradient of the discriminator's loss is turned round before it reaches what makes proxies.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn

from veilseg.datasets.cases import PreparedCase
from veilseg.networks.identity import SiameseDiscriminator, reversed_gradient
from veilseg.networks.segmenter import Segmenter
from veilseg.payload import Float32Array
from veilseg.schemes.references import Template, synthetic_reference
from veilseg.training.augmentation import Augmentation
from veilseg.training.batches import Examples
from veilseg.training.examples import Arrays, one_hot
from veilseg.training.interface import PartsFirst, Progress, SchemeTraining, no_progress
from veilseg.training.losses import soft_target_loss
from veilseg.training.run import Run
from veilseg.training.stage import Prepare, Stage

# Data sets have one image of most people: the other is placed and coloured anew, as a second scan.
SECOND_SCAN = 0.3
# Of the discriminator's loss against the segmentation's, where nothing else is its strength.
ADVERSARIAL_WEIGHT = 1.0
# In one step there have to be two people to be told apart.
SMALLEST_BATCH = 2


@dataclass(frozen=True)
class Shown:
    """What a server gets of a batch, and what it is to answer.

    Attributes
    ----------
    proxy : Tensor, shape (N, C, X, Y[, Z])
    target : Tensor, shape (N, K, X, Y[, Z])
        Class maps as the proxy shows them.
    """

    proxy: Tensor
    target: Tensor


class AdversarialTraining(SchemeTraining):
    """Protection, segmentation network and identity discriminator, fitted together.

    Parameters
    ----------
    spatial_dims, channels, classes : int
    template : Template
        For a self-test image that is nobody's.
    cases : sequence of PreparedCase
        Whom the discriminator is to tell apart.
    judged : int
        Channels that the discriminator sees.
    """

    unshipped = frozenset({"discriminator"})

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        classes: int,
        template: Template,
        cases: Sequence[PreparedCase],
        judged: int,
    ) -> None:
        super().__init__()
        self.classes, self.template = classes, template
        people = dict.fromkeys(case.patient for case in cases)
        self.people = {patient: number for number, patient in enumerate(people)}
        self.segmenter = Segmenter(spatial_dims, channels, classes)
        self.discriminator = SiameseDiscriminator(spatial_dims, judged)
        self.adversarial_weight = ADVERSARIAL_WEIGHT

    @abstractmethod
    def shown(self, batch: dict[str, Tensor], again: bool = False) -> Shown:
        """What is sent of the images of a batch, or of the same people's other images."""

    @abstractmethod
    def judged(self, shown: Shown) -> Tensor:
        """What of it the discriminator sees: (N, judged, X, Y[, Z])."""

    def prepare(self, run: Run) -> Prepare | None:
        """What is done to each batch."""
        return PartsFirst(run)

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:
        again, labels = Augmentation(case.labels.ndim, strength=SECOND_SCAN)(
            case.image, case.labels, rng
        )
        return {
            "image": case.image,
            "target": one_hot(case.labels, self.classes),
            "image_again": again,
            "target_again": one_hot(labels, self.classes),
            # Those who validate are nobody whom it knows.
            "person": np.array(self.people.get(case.patient, -1), dtype=np.float32),
        }

    def stages(
        self,
        cases: Sequence[PreparedCase],
        run: Run,
        spacing: Sequence[float] | None,
        progress: Progress = no_progress,  # noqa: ARG002 - one interface
    ) -> Iterator[Stage]:
        tile, size = run.tile_shape, max(SMALLEST_BATCH, run.batch)
        examples = Examples(self, cases, tile, run.steps * size, run.seed, spacing=spacing)
        rate = run.recipe.learning_rate
        yield Stage("", self, examples, len(tile), run.steps, size, rate, self.prepare(run))

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        shown = self.shown(batch)
        logits = self.segmenter(shown.proxy)
        of_mask = soft_target_loss(logits, shown.target, batch.get("counted"))
        return of_mask + self.identity_loss(batch, shown, self.shown(batch, again=True))

    def identity_loss(self, batch: dict[str, Tensor], first: Shown, second: Shown) -> Tensor:
        """The discriminator's; what made the proxies gets its gradient turned round."""
        one, other = (
            reversed_gradient(self.judged(shown), self.adversarial_weight)
            for shown in (first, second)
        )
        return self.discriminator.loss(one, other, batch["person"], batch.get("counted"))

    def answered(self, proxy: Tensor) -> Tensor:
        """What the server answers: class probabilities on the proxy's grid."""
        return torch.softmax(self.segmenter(proxy).float(), dim=1)

    @property
    def server_network(self) -> nn.Module:
        return nn.Sequential(self.segmenter, nn.Softmax(dim=1))

    @torch.no_grad()
    def selftest_image(self, rng: Generator) -> Float32Array:
        nobody = synthetic_reference(self.template, self.template.tissues.shape, rng)
        batch = {
            "image": torch.from_numpy(nobody.image)[None],
            "target": torch.from_numpy(one_hot(nobody.labels, self.classes))[None],
        }
        found: Float32Array = self.shown(batch).proxy[0].float().numpy()
        return found

    def settings(self) -> dict[str, Any]:
        return {"adversarial_weight": self.adversarial_weight}
