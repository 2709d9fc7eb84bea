"""A16 on encoded answers: tokens that are alike show where a structure is, and pairs decode it."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from torch import Tensor, from_numpy, nn
from torch.utils.data import Dataset

from veilseg.audit.attacks.mask_recovery import population_map
from veilseg.audit.encodings import decoded, layout_of, own_tiles
from veilseg.audit.findings import Control, Finding, Threat, rounded
from veilseg.audit.fitting import run
from veilseg.audit.grids import means_of_blocks, on_blocks
from veilseg.audit.nulls import null_of_masks, proxies_of_nobody
from veilseg.audit.scene import Observation
from veilseg.audit.workshop import Workshop
from veilseg.evaluation.bootstrap import bootstrap_mean
from veilseg.evaluation.dice import dice_per_class, mean_foreground
from veilseg.networks.encoders import Decoder
from veilseg.payload import Float32Array
from veilseg.schemes.encoding.mapping import as_maps
from veilseg.schemes.encoding.sequence import Layout
from veilseg.training.examples import one_hot
from veilseg.training.loader import Batch
from veilseg.training.losses import soft_target_loss

FINDING = Finding("A16e", "Mask recovery from encoded answers", "mask", Threat(), "Dice")
CLUSTERS = 6
LEAST_GAIN = 0.05
BATCH = 4

Labels = NDArray[np.uint8]
Attack = Callable[[Sequence[Observation]], list[Labels]]


def attack(workshop: Workshop) -> list[Finding]:
    """Dice of the mask: by clusters of tokens, a decoder of known answers, and a site's own."""
    scene = workshop.scene
    layout = layout_of(scene, "mask")
    seen = workshop.observed()
    truths, patients = [one.labels for one in seen], [one.patient for one in seen]
    population = population_map(workshop)
    nothing = _mean([_dice(population.argmax(axis=0), truth, scene.classes) for truth in truths])
    nobody = proxies_of_nobody(workshop, scene.law(), answered=True)
    pairs = scene.simulate(scene.law(), own_tiles(scene), answered=True)
    network = answer_decoder(workshop, pairs)
    groups = _groups(workshop)
    # The masks themselves, each class' share of a token: what is alike there is of one class.
    of_masks = [_shares(one.labels, scene.classes, layout) for one in seen]
    by_masks = Groups(of_masks, population, layout, scene.seed)
    found: tuple[tuple[str, Threat, Attack, list[Labels], str], ...] = (
        (
            "tokens that are alike",
            Threat(knows_networks=False, subjects=len(seen)),
            lambda some: [groups.labels(one) for one in _tokens(some, layout)],
            [by_masks.labels(one) for one in of_masks],
            "tokens of the masks themselves",
        ),
        (
            f"known answers to {len(pairs)} images of its own",
            Threat(known_pairs=len(pairs)),
            lambda some: [network.labels(one.answer) for one in some],
            [network.labels(one.answer) for one in pairs[: len(seen)]],
            "answers it was fitted to",
        ),
        (
            "the decoder of a colluding site",
            Threat(colluding_site=True),
            lambda some: _decoded(workshop, some),
            _decoded(workshop, pairs[: len(seen)]),
            "answers to the attacker's own images",
        ),
    )
    findings = []
    for setting, threat, attack_on, familiar, what in found:
        known = truths if what.startswith("tokens") else [one.labels for one in pairs]
        scores, again = (
            [_dice(one, truth, scene.classes) for one, truth in zip(masks, those, strict=False)]
            for masks, those in ((attack_on(seen), truths), (familiar, known))
        )
        findings.append(
            replace(FINDING, threat=threat).measured(
                bootstrap_mean(scores, patients),
                {"population-mean mask": nothing},
                Control(what, _mean(again), low=nothing + LEAST_GAIN),
                null_of_masks(workshop, attack_on(nobody)),
                {"dice": rounded(_mean(scores))},
                setting,
            )
        )
    return findings


def _decoded(workshop: Workshop, seen: Sequence[Observation]) -> list[Labels]:
    """What the site itself gets of an answer: whoever has its half gets no less."""
    return [
        np.asarray(one.answer.argmax(axis=0), np.uint8) for one in decoded(workshop.scene, seen)
    ]


def _groups(workshop: Workshop) -> "Groups":
    scene, layout = workshop.scene, layout_of(workshop.scene, "mask")
    return Groups(
        _tokens(workshop.observed(), layout), population_map(workshop), layout, scene.seed
    )


def masks_of_groups(workshop: Workshop) -> list[Labels]:
    """The audited people's masks, by tokens of their answers that are alike."""
    groups, layout = _groups(workshop), layout_of(workshop.scene, "mask")
    return [groups.labels(one) for one in _tokens(workshop.observed(), layout)]


def answer_decoder(workshop: Workshop, pairs: Sequence[Observation]) -> "AnswerDecoder":
    """What known answers and their masks teach."""
    scene, steps = workshop.scene, workshop.effort.steps
    network = workshop.fitted(
        "mask-decoder",
        lambda: AnswerDecoder(layout_of(scene, "mask"), scene.classes),
        _Answers(pairs, scene.classes, steps * BATCH, scene.seed),
        lambda network, batch: network.loss(batch),  # type: ignore[operator]  # it is a decoder
        steps,
        BATCH,
    )
    assert isinstance(network, AnswerDecoder)
    return network


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

    def loss(self, batch: Batch) -> Tensor:
        return soft_target_loss(self(batch["answer"]), batch["target"])

    def labels(self, answer: Float32Array) -> Labels:
        return np.asarray(run(self, answer).argmax(axis=0), dtype=np.uint8)


class _Answers(Dataset[Batch]):
    def __init__(self, pairs: Sequence[Observation], classes: int, count: int, seed: int) -> None:
        self.pairs, self.classes, self.count, self.seed = pairs, classes, count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Batch:
        rng = np.random.default_rng([self.seed, 32, number])
        one = self.pairs[int(rng.integers(len(self.pairs)))]
        target = one_hot(one.labels, self.classes)
        return {"answer": from_numpy(one.answer.copy()), "target": from_numpy(target)}


class Groups:
    """Tokens that are alike, each group of the class that is more frequent there than elsewhere.

    Parameters
    ----------
    tokens : sequence of ndarray, shape (tokens, channels)
        Of several answers, on the finest grid. Nothing is known of them but where they lie.
    population : ndarray, shape (K, *tile)
        How frequent each class is at each voxel.
    layout : Layout
    seed : int
    """

    def __init__(
        self,
        tokens: Sequence[NDArray[np.float64]],
        population: Float32Array,
        layout: Layout,
        seed: int,
    ) -> None:
        self.grid, self.tile = layout.levels[0].grid, population.shape[1:]
        self.centres, groups = kmeans2(np.concatenate(tokens), CLUSTERS, minit="++", seed=seed)
        prior = means_of_blocks(population, self.grid).reshape(len(population), -1)
        there = np.tile(prior, len(tokens))
        elsewhere = np.maximum(there.mean(axis=1), 1e-6)
        self.class_of = np.array(
            [
                (there[:, groups == g].mean(axis=1) / elsewhere).argmax()
                if (groups == g).any()
                else 0
                for g in range(CLUSTERS)
            ]
        )

    def labels(self, tokens: NDArray[np.float64]) -> Labels:
        """On the tile."""
        distance = ((tokens[:, None] - self.centres) ** 2).sum(axis=2)
        classes = self.class_of[distance.argmin(axis=1)].reshape(self.grid)
        return np.asarray(on_blocks(classes, self.tile), dtype=np.uint8)


def _tokens(seen: Sequence[Observation], layout: Layout) -> list[NDArray[np.float64]]:
    return [next(layout.split(one.answer)).astype(np.float64) for one in seen]


def _shares(labels: Labels, classes: int, layout: Layout) -> NDArray[np.float64]:
    """Share of each class in the voxels of each token, (tokens, K)."""
    shares = means_of_blocks(one_hot(labels, classes), layout.levels[0].grid)
    return shares.reshape(classes, -1).T


def _dice(found: NDArray[np.generic], truth: Labels, classes: int) -> float:
    return mean_foreground(dice_per_class(np.asarray(found, dtype=np.uint8), truth, classes))


def _mean(values: Sequence[float]) -> float:
    return float(np.nanmean(values))
