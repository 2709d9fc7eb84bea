"""A10b: images from encodings by somebody who has neither encoder, nor key, nor a single pair.

As A9 asks who it is, this asks what it looks like: a network learns on encoders of the attacker's
own to turn what no key changes of an encoding back into the image.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, avg_pool3d, l1_loss

from veilseg.audit.attacks.inversion import BATCH, WIDTHS
from veilseg.audit.attacks.matching import (
    SURROGATES,
    Surrogate,
    invariants,
    number_of_invariants,
    surrogate,
)
from veilseg.audit.encodings import FreshEncodings, layout_of, own_tiles
from veilseg.audit.findings import Control, Finding, Threat
from veilseg.audit.fitting import run
from veilseg.audit.nulls import null_of_images, proxies_of_nobody
from veilseg.audit.separator import dissimilarity
from veilseg.audit.similarity import ssim
from veilseg.audit.workshop import Workshop
from veilseg.datasets.cases import PreparedCase
from veilseg.evaluation.bootstrap import bootstrap_mean
from veilseg.networks.encoders import Decoder
from veilseg.payload import Float32Array
from veilseg.schemes.encoding.sequence import Layout
from veilseg.training.examples import Arrays
from veilseg.training.loader import Batch

FINDING = Finding(
    *("A10b", "Encoder inversion without pairs", "image", Threat(knows_networks=False), "SSIM")
)
# By how much the mean image has to be beaten, of an encoder that the network was not fitted to.
LEAST_GAIN = 0.05


class BlindInverter(nn.Module):
    """What no key changes to the image: (N, D + 3, *grid) to (N, C, *tile)."""

    def __init__(self, spatial_dims: int, channels: int) -> None:
        super().__init__()
        maps = number_of_invariants(spatial_dims)
        self.pool = avg_pool3d if spatial_dims == 3 else avg_pool2d
        self.decoder = Decoder(spatial_dims, [maps, maps], channels, WIDTHS)

    def forward(self, known: Tensor) -> Tensor:
        found: Tensor = self.decoder([known, self.pool(known, 2)])
        return found

    def loss(self, batch: Batch) -> Tensor:
        """L1 and SSIM."""
        found = self(batch["proxy"]).float()
        return l1_loss(found, batch["image"]) + dissimilarity(found, batch["image"])


@dataclass(frozen=True)
class BlindLaw:
    """What no key changes of a surrogate's encoding, and the image."""

    surrogates: Sequence[Surrogate]
    layout: Layout

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:
        by = self.surrogates[int(rng.integers(len(self.surrogates)))]
        return {"proxy": invariants(by.encoded(case.image), self.layout), "image": case.image}


def attack(workshop: Workshop) -> list[Finding]:
    """SSIM of what is made of the audited people's encodings."""
    scene, steps = workshop.scene, workshop.effort.steps
    layout = layout_of(scene, "image")
    surrogates = [surrogate(workshop, number) for number in range(SURROGATES)]
    network = workshop.fitted(
        "inverter-0 pairs",
        lambda: BlindInverter(len(scene.manifest.tile_shape), len(scene.manifest.channels)),
        FreshEncodings(own_tiles(scene), BlindLaw(surrogates, layout), steps * BATCH, scene.seed),
        lambda network, batch: network.loss(batch),  # type: ignore[operator]  # a BlindInverter
        steps,
        BATCH,
    )

    def inverted(sequence: Float32Array) -> Float32Array:
        return np.clip(run(network, invariants(sequence, layout)), 0, 1)

    seen, unknown = workshop.observed(), surrogate(workshop, SURROGATES)
    scores = [ssim(inverted(one.proxy), one.image) for one in seen]
    by_own = np.mean([ssim(inverted(unknown.encoded(one.image)), one.image) for one in seen])
    what = "encodings by an encoder that the network was not fitted to"
    nothing = workshop.ssim_of_nobody()
    positive = Control(what, float(by_own), low=nothing + LEAST_GAIN)
    nobody = proxies_of_nobody(workshop, scene.law())
    null = null_of_images(workshop, [inverted(one.proxy) for one in nobody])
    overall = bootstrap_mean(scores, [one.patient for one in seen])
    finding = replace(FINDING, threat=replace(FINDING.threat, subjects=len(seen)))
    return [finding.measured(overall, {"mean image": nothing}, positive, null)]
