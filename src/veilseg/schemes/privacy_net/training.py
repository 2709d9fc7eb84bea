"""Training of ``privacy_net`` (after arXiv:1909.04087): encoder and network against a Siamese
discriminator; decision 0032 says what differs from the paper."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from veilseg.datasets.cases import PreparedCase
from veilseg.networks.image_encoder import ImageEncoder
from veilseg.schemes.adversarial import AdversarialTraining, Shown
from veilseg.schemes.privacy_net.client import ENCODER_FILE
from veilseg.schemes.references import Template
from veilseg.schemes.strength import DEFAULT_STRENGTHS, variant_of
from veilseg.training.export import export_onnx
from veilseg.training.loader import Batch

DEFAULT_STRENGTH = DEFAULT_STRENGTHS["privacy_net"]


class PrivacyNetTraining(AdversarialTraining):
    """An encoder, against a discriminator of encoded images.

    Parameters
    ----------
    spatial_dims, channels, classes : int
    template : Template
        For a self-test image that is nobody's.
    cases : sequence of PreparedCase
        Whom the discriminator is to tell apart.
    strength : float
        Weight of the discriminator's loss against the segmentation's, in the encoder.
    """

    name = "privacy_net"

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        classes: int,
        template: Template,
        cases: Sequence[PreparedCase],
        strength: float = DEFAULT_STRENGTH,
    ) -> None:
        super().__init__(spatial_dims, channels, classes, template, cases, judged=channels)
        self.channels, self.adversarial_weight = channels, strength
        self.encoder = ImageEncoder(spatial_dims, channels)
        self.variant = variant_of(strength)

    def shown(self, batch: Batch, again: bool = False) -> Shown:
        suffix = "_again" if again else ""
        return Shown(self.encoder(batch[f"image{suffix}"]), batch[f"target{suffix}"])

    def judged(self, shown: Shown) -> Tensor:
        return shown.proxy

    def predict(self, batch: Batch) -> Tensor:
        return self.answered(self.shown(batch).proxy)

    def write_client_files(self, folder: Path, tile_shape: tuple[int, ...]) -> None:
        rng = torch.Generator().manual_seed(0)
        image = torch.rand((1, self.channels, *tile_shape), generator=rng)
        # Named as here, so that another training can start from it.
        network = nn.Sequential(OrderedDict(encoder=self.encoder))
        export_onnx(network, folder / ENCODER_FILE, {"image": image}, "encoded")

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"strength": self.adversarial_weight}
