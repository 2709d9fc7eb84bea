"""A16 on encoded answers: tokens that are alike show where a structure is, and pairs decode it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.cluster.vq import kmeans2
from torch import Tensor, from_numpy, nn
from torch.utils.data import Dataset

from veilseg.audit.attacks.mask_recovery import population_map
from veilseg.audit.encodings import layout_of, own_tiles
from veilseg.audit.findings import Control, Finding, Threat, rounded
from veilseg.audit.fitting import run
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


def attack(workshop: Workshop) -> list[Finding]:
    """Dice of the patient's mask: by clusters of tokens, and by a decoder of known answers."""
    scene = workshop.scene
    layout = layout_of(scene, "mask")
    seen = workshop.observed()
    truths, patients = [one.labels for one in seen], [one.patient for one in seen]
    population = population_map(workshop)
    known = own_tiles(scene)
    pairs = scene.simulate(scene.law(), known, answered=True)
    network = workshop.fitted(
        "mask-decoder",
        lambda: _AnswerDecoder(layout, scene.classes),
        _Answers(pairs, scene.classes, workshop.effort.steps * BATCH, scene.seed),
        lambda network, batch: network.loss(batch),  # type: ignore[operator]  # it is a decoder
        workshop.effort.steps,
        BATCH,
    )
    assert isinstance(network, _AnswerDecoder)
    nobody = proxies_of_nobody(workshop, scene.law(), answered=True)
    clusters = _Clusters(pairs, layout, population, scene.seed)
    nothing = _mean([_dice(population.argmax(axis=0), truth, scene.classes) for truth in truths])
    findings = []
    decoded = [network.labels(one.answer) for one in seen]
    of_known = [_dice(network.labels(p.answer), p.labels, scene.classes) for p in pairs]
    positive = Control("answers it was fitted to", _mean(of_known), low=nothing + LEAST_GAIN)
    for setting, threat, masks, missed in (
        (
            "tokens that are alike",
            Threat(),
            [clusters.labels(one.answer) for one in seen],
            [clusters.labels(one.answer) for one in nobody],
        ),
        (
            f"known answers to {len(pairs)} images of its own (a colluding site)",
            Threat(known_pairs=len(pairs), colluding_site=True),
            decoded,
            [network.labels(one.answer) for one in nobody],
        ),
    ):
        scores = [
            _dice(one, truth, scene.classes) for one, truth in zip(masks, truths, strict=True)
        ]
        findings.append(
            replace(FINDING, threat=threat).measured(
                bootstrap_mean(scores, patients),
                {"population-mean mask": nothing},
                positive,
                null_of_masks(workshop, missed),
                {"dice": rounded(_mean(scores))},
                setting,
            )
        )
    return findings


class _AnswerDecoder(nn.Module):
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


class _Clusters:
    """Tokens of answers in groups, each of the class that is most frequent where they lie."""

    def __init__(
        self,
        seen: Sequence[Observation],
        layout: Layout,
        population: Float32Array,
        seed: int,
    ) -> None:
        self.layout, self.tile = layout, population.shape[1:]
        tokens = np.concatenate([self._tokens(one.answer) for one in seen])
        self.centres, groups = kmeans2(tokens, CLUSTERS, minit="++", seed=seed)
        grid = layout.levels[0].grid
        zoom = [part / full for part, full in zip(grid, self.tile, strict=True)]
        prior = np.stack([ndimage.zoom(one, zoom, order=1).ravel() for one in population])
        there = np.tile(prior, len(seen))
        # More of a class than elsewhere: the background is most frequent everywhere.
        share = there.mean(axis=1)
        self.class_of = np.array(
            [
                (there[:, groups == g].mean(axis=1) / np.maximum(share, 1e-6)).argmax()
                if (groups == g).any()
                else 0
                for g in range(CLUSTERS)
            ]
        )

    def labels(self, answer: Float32Array) -> Labels:
        """On the tile."""
        tokens = self._tokens(answer)
        distance = ((tokens[:, None] - self.centres) ** 2).sum(axis=2)
        classes = self.class_of[distance.argmin(axis=1)].reshape(self.layout.levels[0].grid)
        zoom = [full / part for full, part in zip(self.tile, classes.shape, strict=True)]
        return np.asarray(ndimage.zoom(classes, zoom, order=0), dtype=np.uint8)

    def _tokens(self, answer: Float32Array) -> NDArray[np.float64]:
        return next(self.layout.split(answer)).astype(np.float64)


def _dice(found: NDArray[np.generic], truth: Labels, classes: int) -> float:
    return mean_foreground(dice_per_class(np.asarray(found, dtype=np.uint8), truth, classes))


def _mean(values: Sequence[float]) -> float:
    return float(np.nanmean(values))
