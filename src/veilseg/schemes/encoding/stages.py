"""What a site fits: its autoencoders, and its decoder with and later without the server."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from veilseg.networks.encoders import Decoder, Encoder, SiteDecoder
from veilseg.networks.encodings import Maps
from veilseg.training.interface import PartsFirst
from veilseg.training.loader import Batch
from veilseg.training.losses import mean_of_counted, soft_target_loss
from veilseg.training.run import Run

# An answer is never exact: encoded masks can be decoded with noise, in standard deviations.
ANSWER_NOISE = 0.3
# Of the image's loss against the mask's. Little: an encoding has few channels, and what is kept of
# the image for its own sake is neither of use for the mask nor to be seen.
IMAGE_WEIGHT = 0.5
# Of a mask that is read off the image's encoding: what matters for it is kept before what does not.
HINT_WEIGHT = 1.0
# Of what the site's decoder makes without an answer: features that stay are of use to it then.
SITE_WEIGHT = 1.0


class Answers(Protocol):
    """The whole scheme, whose server answers."""

    def answered(self, image: Tensor) -> tuple[Maps, Maps]:
        """What the server's network makes of images, without the key, and what stays of them."""
        ...

    def to(self, device: torch.device) -> Any:
        """Where the images are."""
        ...


class Autoencoders(nn.Module):
    """Stage 1: what the mapping network is left out of."""

    def __init__(
        self,
        image_encoder: Encoder,
        image_decoder: Decoder,
        hint: Decoder,
        site_decoder: SiteDecoder,
        mask_encoder: Encoder,
        mask_decoder: Decoder,
    ) -> None:
        super().__init__()
        self.image_encoder, self.image_decoder = image_encoder, image_decoder
        self.hint, self.site_decoder = hint, site_decoder
        self.mask_encoder, self.mask_decoder = mask_encoder, mask_decoder

    def forward(self, batch: Batch) -> Tensor:
        """Loss of both: each has to give back what it was given."""
        target, counted = batch["target"], batch.get("counted")
        # One generator for each example: it has the same noise whichever process has it.
        noise = [torch.Generator().manual_seed(int(seed)) for seed in batch["noise"]]
        maps = self.mask_encoder(target)
        encoded = [_noisy(one, noise) for one in maps]
        of_mask = soft_target_loss(self.mask_decoder(encoded), target, counted)
        features = self.image_encoder.features(batch["image"])
        nothing = [torch.zeros_like(one) for one in maps]
        of_site = soft_target_loss(
            self.site_decoder(nothing, batch["image"], features), target, counted
        )
        decoders = self.image_decoder, self.hint
        of_image = image_loss(self.image_encoder.encoded(features), *decoders, batch)
        return of_image + SITE_WEIGHT * of_site + of_mask


def image_loss(encoded: Maps, decoder: Decoder, hint: Decoder, batch: Batch) -> Tensor:
    """L1 of the image and of its gradients; the mask that is read off the image's encoding."""
    image, counted = batch["image"], batch.get("counted")
    found = decoder(encoded).float()
    off = [(found - image).abs()]
    off += [(found.diff(dim=d) - image.diff(dim=d)).abs() for d in range(2, image.ndim)]
    of_image = torch.stack([mean_of_counted(one, counted) for one in off]).sum()
    hinted = soft_target_loss(hint(encoded), batch["target"], counted)
    return IMAGE_WEIGHT * of_image + HINT_WEIGHT * hinted


class Adaptation(nn.Module):
    """Stage 3: the site's decoder on real answers, of which the site knows what they should be."""

    def __init__(self, site_decoder: SiteDecoder, scheme: Answers) -> None:
        super().__init__()
        self.site_decoder = site_decoder
        self._scheme = [scheme]  # in a list, so no part of this module: nothing else is fitted

    def forward(self, batch: Batch) -> Tensor:
        """Loss of what the site recovers."""
        (scheme,) = self._scheme
        image = batch["image"]
        scheme.to(image.device)
        answer, features = scheme.answered(image)
        logits = self.site_decoder(answer, image, features)
        return soft_target_loss(logits, batch["target"], batch.get("counted"))


@dataclass(frozen=True)
class WithNoise:
    """Parts first, and a seed of each example's noise, by the step and its place in the batch.

    So a resumed run draws what an unbroken one did, and several processes what one does.
    """

    run: Run

    def __call__(self, batch: Batch, step: int, *, steps: int, rank: int) -> Batch:
        given = PartsFirst(self.run)(batch, step, steps=steps, rank=rank)
        share = len(batch["image"])
        seeds = [
            int(np.random.SeedSequence([self.run.seed, 40, step, part, place]).generate_state(1)[0])
            for part in range(len(given["image"]) // share)
            for place in range(rank * share, (rank + 1) * share)
        ]
        return given | {"noise": torch.tensor(seeds)}


def _noisy(maps: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """As answers are: off by a share of what the values of each example vary by."""
    shape = maps.shape[1:]
    noise = torch.stack([torch.randn(shape, generator=one) for one in generators]).to(maps)
    spread = maps.detach().float().flatten(1).std(dim=1)
    return maps + ANSWER_NOISE * spread.reshape(-1, *[1] * len(shape)) * noise
