"""Networks that an attacker fits as the server's was, to other people, and how well any answers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from torch import Tensor, nn

from veilseg.audit.encodings import (
    EncodedSegmenter,
    FreshEncodings,
    as_contributed,
    decoded,
    layout_of,
)
from veilseg.audit.fitting import run, softmax
from veilseg.audit.grids import fitted, means_of_blocks
from veilseg.audit.laws import EncodedLaw, Law, RawLaw
from veilseg.audit.losses import LossMap, of_tokens, of_voxels
from veilseg.audit.scene import Observation
from veilseg.audit.workshop import Workshop, attack_batch_size
from veilseg.contribution import ProtectedPair
from veilseg.datasets.cases import PreparedCase
from veilseg.networks.encoders import ClientAlone
from veilseg.networks.segmenter import Segmenter
from veilseg.payload import Float32Array
from veilseg.schemes.encoding.contributing import EncodingPairs
from veilseg.schemes.encoding.mapping import MEASURED, MappingFit, MappingLoss
from veilseg.training.examples import Arrays, one_hot
from veilseg.training.loader import Batch
from veilseg.training.losses import soft_target_loss

# Proxies of each candidate whose losses are averaged: the attacker makes as many as it likes.
PROXIES_PER_CANDIDATE = 4


@dataclass
class Shadows:
    """Networks as the server's, their answers, and the loss that membership is told by.

    Here the server's network answers maps of classes.

    Attributes
    ----------
    workshop : Workshop
    """

    workshop: Workshop

    def network(
        self,
        name: str,
        people: Sequence[PreparedCase],
        law: Law,
        augment: bool = True,
        steps: int | None = None,
    ) -> nn.Module:
        """Fitted to these people alone, as the server's was but for fewer steps."""
        return segmentation_network(self.workshop, name, law, people, augment, steps)

    def drawn(
        self, people: Sequence[PreparedCase], law: Law, answered: bool
    ) -> list[list[Observation]]:
        """Proxies that the attacker makes of each candidate, by draw."""
        scene = self.workshop.scene
        return [
            replace(scene, seed=scene.seed + draw).simulate(law, people, answered)
            for draw in range(PROXIES_PER_CANDIDATE if scene.varies else 1)
        ]

    def answer(self, network: nn.Module, one: Observation) -> Float32Array:
        """What a network of the attacker's answers."""
        return softmax(run(network, one.proxy))

    def loss(self, one: Observation) -> LossMap:
        """How far an answer is from what it should be, and where a structure is."""
        return of_voxels(one, self.workshop.scene.coefficient)


class Mappings(Shadows):
    """Where it answers encoded masks: fitted by their difference, so it is that which tells.

    Whoever knows a candidate's labels encodes them as a site does.
    """

    def __init__(self, workshop: Workshop) -> None:
        super().__init__(workshop)
        scene = workshop.scene
        self.pairs = EncodingPairs(scene.bundle, scene.key)
        self.image, self.mask = layout_of(scene, "image"), layout_of(scene, "mask")

    def network(
        self,
        name: str,
        people: Sequence[PreparedCase],
        law: Law,  # noqa: ARG002 - one interface
        augment: bool = True,
        steps: int | None = None,
    ) -> nn.Module:
        """As :class:`Shadows`; by pairs of encodings, whatever the law."""
        scene = self.workshop.scene
        steps = self.workshop.effort.shadow_steps if steps is None else steps
        size = attack_batch_size(scene.manifest.tile_shape)
        tiles = [fitted(case, scene.manifest.tile_shape) for case in people]
        law_of_pairs = _PairLaw(self.pairs, scene.classes)

        def build() -> nn.Module:
            mapping = MappingFit(self.image, self.mask, 0, 0, 0).mapping()
            mapping.standardise([law_of_pairs.pair(case) for case in tiles[:MEASURED]])
            return mapping

        return self.workshop.fitted(
            *(name, build),
            FreshEncodings(tiles, law_of_pairs, steps * size, scene.seed, augment),
            lambda network, batch: MappingLoss(network)(batch),  # type: ignore[arg-type]
            *(steps, size),
        )

    def answer(self, network: nn.Module, one: Observation) -> Float32Array:
        """As :class:`Shadows`: an encoded mask."""
        return run(network, one.proxy)

    def loss(self, one: Observation) -> LossMap:
        """As :class:`Shadows`: root mean square of each token's difference."""
        (encoded,) = as_contributed(self.pairs, self.workshop.scene.classes, [one])
        inside = (one.labels > 0)[None].astype(np.float32)
        found, wanted = (list(self.mask.split(maps)) for maps in (one.answer, encoded.answer))
        return of_tokens(
            *(found, wanted),
            [means_of_blocks(inside, level.grid).ravel() > 0 for level in self.mask.levels],
        )


class Halves(Shadows):
    """Where a site's half was trained on images, encoder and decoder alike: it is given the answer
    and a candidate's image, and what it makes of them tells.

    The attacker's own have the site's two networks and no server.
    """

    def network(
        self,
        name: str,
        people: Sequence[PreparedCase],
        law: Law,  # noqa: ARG002 - one interface
        augment: bool = True,
        steps: int | None = None,
    ) -> nn.Module:
        """As :class:`Shadows`; of images, whatever the law."""
        scene = self.workshop.scene
        between = [level.channels for level in layout_of(scene, "mask").levels]
        kinds = len(scene.manifest.tile_shape), len(scene.manifest.channels)
        return self.workshop.trained(
            f"half-{name}",
            lambda: ClientAlone(*kinds, between, scene.classes),
            RawLaw(scene.classes),
            lambda network, batch: soft_target_loss(network(batch["image"]), batch["target"]),
            self.workshop.effort.shadow_steps if steps is None else steps,
            cases=people,
            augment=augment,
        )

    def drawn(
        self, people: Sequence[PreparedCase], law: Law, answered: bool
    ) -> list[list[Observation]]:
        """As :class:`Shadows`; answers are what the site's half makes of them."""
        seen = super().drawn(people, law, answered)
        if not answered:
            return seen
        scene = self.workshop.scene
        return [decoded(scene, some, [one.image for one in some]) for some in seen]

    def answer(self, network: nn.Module, one: Observation) -> Float32Array:
        """As :class:`Shadows`: of the image."""
        return softmax(run(network, one.image))


@dataclass(frozen=True)
class _PairLaw:
    """What a site sends of a tile in training."""

    pairs: EncodingPairs
    classes: int

    def pair(self, case: PreparedCase) -> ProtectedPair:
        target = one_hot(case.labels, self.classes)
        return self.pairs.pair({"image": case.image, "target": target})

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:  # noqa: ARG002 - one interface
        pair = self.pair(case)
        return {"image": pair.proxy, "mask": pair.answer}


def shadows_of(workshop: Workshop) -> Shadows:
    """As the server's network is."""
    return Mappings(workshop) if workshop.scene.encodes else Shadows(workshop)


def segmentation_network(
    workshop: Workshop,
    name: str,
    law: Law,
    people: Sequence[PreparedCase],
    augment: bool = True,
    steps: int | None = None,
) -> nn.Module:
    """A segmentation network of the attacker, trained as the server's was but for fewer steps."""
    scene = workshop.scene
    if steps is None:
        steps = workshop.effort.shadow_steps
    if isinstance(law, EncodedLaw):
        size = attack_batch_size(scene.manifest.tile_shape)
        tiles = [fitted(case, scene.manifest.tile_shape) for case in people]
        return workshop.fitted(
            name,
            lambda: EncodedSegmenter(
                layout_of(scene, "image"), layout_of(scene, "mask"), scene.classes
            ),
            FreshEncodings(tiles, law, steps * size, scene.seed, augment),
            lambda network, batch: soft_target_loss(network(batch["proxy"]), batch["target"]),
            steps,
            size,
        )
    kinds = len(scene.manifest.tile_shape), len(scene.manifest.channels), scene.classes

    def loss(network: nn.Module, batch: Batch) -> Tensor:
        target = batch.get("shown_target", batch["target"])
        if "reference_labels" in batch:
            a = scene.coefficient
            target = a * target + (1 - a) * batch["reference_labels"]
        return soft_target_loss(network(batch["proxy"]), target)

    return workshop.trained(
        name, lambda: Segmenter(*kinds), law, loss, steps, cases=people, augment=augment
    )
