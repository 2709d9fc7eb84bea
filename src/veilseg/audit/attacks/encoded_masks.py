"""A16 on encoded answers: what tokens that are alike, known pairs and a site's own half show."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor, from_numpy, nn
from torch.utils.data import Dataset

from veilseg.audit.attacks.alike_tokens import masks_of_groups, masks_of_groups_of_masks
from veilseg.audit.attacks.inversion import inverter
from veilseg.audit.attacks.mask_recovery import dice_of_each, population_map
from veilseg.audit.encodings import (
    EncodedSegmenter,
    FreshEncodings,
    as_contributed,
    decoded,
    layout_of,
    own_tiles,
)
from veilseg.audit.findings import Control, Finding, Threat, rounded
from veilseg.audit.fitting import run
from veilseg.audit.nulls import null_of_masks, proxies_of_nobody
from veilseg.audit.reading_off import Labels, strongest
from veilseg.audit.scene import Observation
from veilseg.audit.shadows import segmentation_network
from veilseg.audit.workshop import Workshop
from veilseg.datasets.cases import PreparedCase
from veilseg.evaluation.bootstrap import bootstrap_mean
from veilseg.networks.encoders import Decoder
from veilseg.schemes.encoding.contributing import EncodingPairs
from veilseg.schemes.encoding.mapping import as_maps
from veilseg.schemes.encoding.sequence import Layout
from veilseg.schemes.encoding.stages import ANSWER_NOISE
from veilseg.training.examples import Arrays, one_hot
from veilseg.training.loader import Batch
from veilseg.training.losses import soft_target_loss

FINDING = Finding("A16e", "Mask recovery from encoded answers", "mask", Threat(), "Dice")
LEAST_GAIN = 0.05
BATCH = 4

Masks = Callable[[Sequence[Observation]], list[Labels]]


def attack(workshop: Workshop) -> list[Finding]:
    """Dice of the mask: by groups of tokens, by networks, and by a site's own decoder."""
    scene, seen = workshop.scene, workshop.observed()
    layout_of(scene, "mask")  # raises where nothing is encoded
    pairs = scene.simulate(scene.law(), own_tiles(scene), answered=True)
    nobody = proxies_of_nobody(workshop, scene.law(), answered=True)
    count, familiar = len(pairs), pairs[: len(seen)]
    colluding, knowing = Threat(colluding_site=True), Threat(known_pairs=count)
    fitted_to = "images it was fitted to"
    findings = [
        _finding(
            *(workshop, nobody, "tokens that are alike"),
            Threat(knows_networks=False, subjects=len(seen)),
            lambda some: masks_of_groups(workshop, some),
            ("tokens of the masks themselves", masks_of_groups_of_masks(workshop), seen),
        )
    ]
    from_answer, from_both = network_on_answers(workshop, pairs), _network_on_both(workshop, pairs)
    from_encoding = segmentation_network(
        *(workshop, "mask-of-encoding", scene.law(), scene.auxiliary), steps=workshop.effort.steps
    )
    attackers: tuple[tuple[str, Threat, Masks, str], ...] = (
        (
            f"known answers to {count} images of its own",
            knowing,
            lambda some: [strongest(run(from_answer, one.answer)) for one in some],
            fitted_to,
        ),
        (
            f"a network on encoding and answer, of {count} images of its own",
            knowing,
            lambda some: [strongest(run(from_both, one.proxy, one.answer)) for one in some],
            fitted_to,
        ),
        (
            "a network on encodings alone, by the encoder of a colluding site",
            colluding,
            lambda some: [strongest(run(from_encoding, one.proxy)) for one in some],
            fitted_to,
        ),
        (
            "the decoder of a colluding site",
            colluding,
            lambda some: _decoded(workshop, some),
            "answers to the attacker's own images",
        ),
    )
    findings += [
        _finding(workshop, nobody, setting, threat, masks, (what, masks(familiar), familiar))
        for setting, threat, masks, what in attackers
    ]
    site = EncodingPairs(scene.bundle, scene.key)
    own, sent = (as_contributed(site, scene.classes, some) for some in (familiar, seen))
    of_masks = _decoder_of_masks(workshop, site)

    def read(some: Sequence[Observation]) -> list[Labels]:
        return [strongest(run(of_masks, one.answer)) for one in some]

    easy = "masks of the attacker's own", read(own), own
    trained = "a decoder that a colluding site trains by its mask encoder"
    to_a_fit = f"masks that a site gives to a fit, by {trained}"
    given = _finding(workshop, nobody, to_a_fit, colluding, read, easy, sent)
    return [
        *findings,
        _finding(workshop, nobody, trained, colluding, read, easy),
        replace(given, occurs="if asked for"),
    ]


def _finding(
    workshop: Workshop,
    nobody: Sequence[Observation],
    setting: str,
    threat: Threat,
    masks: Masks,
    easy: tuple[str, Sequence[Labels], Sequence[Observation]],
    seen: Sequence[Observation] | None = None,
) -> Finding:
    """Of one attacker; ``easy`` is what it has to manage, what it made of it, and whose it is.

    ``seen`` is None for what is sent and answered when the audited are segmented.
    """
    scene = workshop.scene
    seen = workshop.observed() if seen is None else seen

    def dice(found: Sequence[Labels], those: Sequence[Observation]) -> list[float]:
        return dice_of_each(found, [one.labels for one in those], scene.classes)

    population = strongest(population_map(workshop))
    nothing = _mean(dice([population] * len(seen), seen))
    scores = dice(masks(seen), seen)
    what, made, whose = easy
    return replace(FINDING, threat=threat).measured(
        bootstrap_mean(scores, [one.patient for one in seen]),
        {"population-mean mask": nothing},
        Control(what, _mean(dice(made, whose)), low=nothing + LEAST_GAIN),
        null_of_masks(workshop, masks(nobody)),
        {"dice": rounded(_mean(scores))},
        setting,
    )


def _decoded(workshop: Workshop, seen: Sequence[Observation]) -> list[Labels]:
    """By a site's own decoder. It asks for the image as well, and gets what A10 makes of it."""
    network = inverter(workshop)
    images = [network.inverted(one.proxy) for one in seen]
    return [strongest(one.answer) for one in decoded(workshop.scene, seen, images)]


def network_on_answers(workshop: Workshop, pairs: Sequence[Observation]) -> nn.Module:
    """Encoded mask to class logits: what known answers and their masks teach."""
    layout, classes = layout_of(workshop.scene, "mask"), workshop.scene.classes
    return _fitted(
        *(workshop, "mask-of-answer", lambda: AnswerDecoder(layout, classes), ("answer",), pairs)
    )


def _network_on_both(workshop: Workshop, pairs: Sequence[Observation]) -> nn.Module:
    scene = workshop.scene
    layouts = layout_of(scene, "image"), layout_of(scene, "mask")
    return _fitted(
        *(workshop, "mask-of-both", lambda: EncodedSegmenter(*layouts, scene.classes, True)),
        *(("proxy", "answer"), pairs),
    )


def _fitted(
    workshop: Workshop,
    name: str,
    make: Callable[[], nn.Module],
    sees: Sequence[str],
    pairs: Sequence[Observation],
) -> nn.Module:
    """A network on what ``sees`` names of the known pairs."""
    scene, steps = workshop.scene, workshop.effort.steps
    examples = _Pairs(pairs, scene.classes, steps * BATCH, scene.seed)

    def loss(network: nn.Module, batch: Batch) -> Tensor:
        return soft_target_loss(network(*(batch[what] for what in sees)), batch["target"])

    return workshop.fitted(name, make, examples, loss, steps, BATCH)


def _decoder_of_masks(workshop: Workshop, site: EncodingPairs) -> nn.Module:
    """What a mask encoder teaches, of as many masks as wanted: no answer is needed for it."""
    scene, steps = workshop.scene, workshop.effort.steps
    layout = layout_of(scene, "mask")
    law = _MaskLaw(site, scene.classes)
    examples = FreshEncodings(own_tiles(scene), law, steps * BATCH, scene.seed)

    def loss(network: nn.Module, batch: Batch) -> Tensor:
        return soft_target_loss(network(batch["answer"]), batch["target"])

    return workshop.fitted(
        "decoder-of-masks",
        lambda: AnswerDecoder(layout, scene.classes),
        examples,
        loss,
        steps,
        BATCH,
    )


@dataclass(frozen=True)
class _MaskLaw:
    """Encoded masks as a site makes them, and as far off as answers are."""

    site: EncodingPairs
    classes: int

    def example(self, case: PreparedCase, rng: np.random.Generator) -> Arrays:
        target = one_hot(case.labels, self.classes)
        encoded = self.site.mask(target)
        noise = ANSWER_NOISE * encoded.std() * rng.standard_normal(encoded.shape)
        return {"answer": (encoded + noise).astype(np.float32), "target": target}


class AnswerDecoder(nn.Module):
    """Encoded mask to class logits."""

    def __init__(self, layout: Layout, classes: int) -> None:
        super().__init__()
        self.layout = layout
        dims = len(layout.levels[0].grid)
        self.decoder = Decoder(dims, [level.channels for level in layout.levels], classes)

    def forward(self, sequence: Tensor) -> Tensor:
        found: Tensor = self.decoder(as_maps(sequence, self.layout))
        return found


class _Pairs(Dataset[Batch]):
    """Encodings and answers of the attacker's own images, with their masks."""

    def __init__(self, pairs: Sequence[Observation], classes: int, count: int, seed: int) -> None:
        self.pairs, self.classes, self.count, self.seed = pairs, classes, count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Batch:
        rng = np.random.default_rng([self.seed, 32, number])
        one = self.pairs[int(rng.integers(len(self.pairs)))]
        found = {"proxy": one.proxy, "answer": one.answer}
        found["target"] = one_hot(one.labels, self.classes)
        return {name: from_numpy(array.copy()) for name, array in found.items()}


def _mean(values: Sequence[float]) -> float:
    return float(np.nanmean(values))
