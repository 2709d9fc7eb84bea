"""One set of networks for all settings of the frontier, and what they keep and find at each."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from veilseg.audit.attacks.membership import OVERFITTED_PEOPLE, auc
from veilseg.audit.attacks.reidentification import correlated
from veilseg.audit.chance import hit_interval, label_interval, permutation_interval
from veilseg.audit.findings import rounded
from veilseg.audit.fitting import run, softmax
from veilseg.audit.grids import fitted
from veilseg.audit.laws import SETTINGS, Law, MixtureLaw, RawLaw, SweptLaw
from veilseg.audit.linear import LinearAttacker
from veilseg.audit.losses import SMALLEST_PROBABILITY
from veilseg.audit.nulls import dices
from veilseg.audit.reading_off import Labels, read_off
from veilseg.audit.scene import evenly, on_the_wire
from veilseg.audit.second_scans import second_acquisitions
from veilseg.audit.separator import Separator
from veilseg.audit.shadows import segmentation_network
from veilseg.audit.similarity import similarities, ssim
from veilseg.audit.workshop import Workshop
from veilseg.datasets.cases import PreparedCase
from veilseg.evaluation.bootstrap import Interval, bootstrap_mean
from veilseg.evaluation.dice import dice_per_class, mean_foreground
from veilseg.payload import Float32Array
from veilseg.schemes.mixup.training import MixupTraining
from veilseg.schemes.population import population_template
from veilseg.training.examples import Arrays
from veilseg.training.loader import Batch
from veilseg.training.processes import launch
from veilseg.training.recipe import Recipe

LOWEST = 0.15
# Of the effort's steps: networks for all points need more than those for one.
LONGER = 2
RAW, NOTHING = "raw image", "no information"


@dataclass(frozen=True)
class Point:
    """One setting: what is kept, and what is learned in each channel.

    Attributes
    ----------
    what : str
        ``mixture``, or one of the two ends.
    coefficient : float
    references : int
    dice : float
        Of what the site gets.
    image, mask, identity, membership : float
        SSIM and Dice of the stronger attackers, rank-1 by correlations and AUC by the loss alone:
        A5, A16, A15 and A14 try more at one setting. None in documents where it cannot be trusted:
        the attack fails where all is open, or finds somebody where nobody is.
    intervals : dict of (low, high)
        95 %, patients drawn anew, of Dice kept, image and mask.
    """

    what: str
    coefficient: float
    references: int
    dice: float
    image: float
    mask: float
    identity: float
    membership: float
    intervals: dict[str, tuple[float | None, float | None]]


class Sweep:
    """The networks for all points, and whom they are tried on."""

    def __init__(self, workshop: Workshop, law: MixtureLaw, counts: tuple[int, ...]) -> None:
        scene = workshop.scene
        shape = len(scene.manifest.tile_shape), len(scene.manifest.channels), scene.classes
        everywhere = SweptLaw(law, (LOWEST, 1.0), counts)
        self.steps = steps = LONGER * workshop.effort.steps
        own = scene.members or scene.auxiliary
        # Only the networks of it are used: references come from the law.
        template = population_template(own, scene.manifest.tile_shape, scene.classes, scene.seed)
        scheme = workshop.trained(
            "frontier-scheme",
            lambda: MixupTraining(*shape, template, own, Recipe()),
            everywhere,
            lambda network, batch: network(batch),
            steps=steps,
            cases=own,
        )
        attacker = workshop.trained(
            "frontier-separator",
            lambda: Separator(*shape, {"setting": SETTINGS, "answer": scene.classes}),
            everywhere,
            _answered_by(scheme),
            steps=steps,
        )
        assert isinstance(scheme, MixupTraining)
        assert isinstance(attacker, Separator)
        self.workshop, self.own = workshop, own
        self.scene, self.scheme, self.attacker = scene, scheme, attacker
        self.classes, self.tile, self.seed = scene.classes, scene.manifest.tile_shape, scene.seed
        self.audited, self.gallery, _ = second_acquisitions(workshop)
        self.members = evenly(scene.members, len(self.audited))
        # By channel, of what was measured last: the end without information.
        self.chance: dict[str, float] = {}

    def point(self, what: str, law: Law, coefficient: float, references: int) -> Point:
        """What is kept and what is learned at one setting."""
        drawn = [self._drawn(law, case, number) for number, case in enumerate(self.audited)]
        proxies = [one["proxy"] for one in drawn]
        answers = [self._answer(proxy) for proxy in proxies]
        found = [
            self.attacker.separate(one["proxy"], one["setting"], answer)
            for one, answer in zip(drawn, answers, strict=True)
        ]
        images = [image for image, _ in found]
        of_answers = zip(answers, drawn, strict=True)
        masks = [
            [np.asarray(logits.argmax(axis=0), np.uint8) for _, logits in found],
            [read_off(answer, float(one["coefficient"])) for answer, one in of_answers],
            # Several references share what is left of the weight: the strongest is the patient's.
            [np.asarray(answer.argmax(axis=0), np.uint8) for answer in answers],
        ]
        truths = [one["image"] for one in drawn]
        labels = [np.asarray(one["target"].argmax(axis=0), np.uint8) for one in drawn]
        linear = LinearAttacker.fitted(self.scene, law)
        seen = (proxies, [linear(proxy) for proxy in proxies], images)
        inside = [self._drawn(law, case, 10_000 + n) for n, case in enumerate(self.members)]
        scores = np.array(
            [
                *(-_loss(one, self._answer(one["proxy"])) for one in inside),
                *(-_loss(one, answer) for one, answer in zip(drawn, answers, strict=True)),
            ]
        )
        if what == NOTHING:
            self.chance = {
                "image": max(self._by_chance(similarities(some, truths)) for some in seen),
                "mask": max(self._by_chance(dices(some, labels, self.classes)) for some in masks),
                "identity": hit_interval(len(drawn), self.gallery.chance)[1],
                "membership": self._memberships_by_chance(scores),
            }
        kept = [self._recovered(one) for one in drawn]
        return self._point((what, coefficient, references), drawn, kept, seen, masks, scores)

    def raw(self) -> Point:
        """Images as they are, segmented by a network for raw images: all there is to learn."""
        network = segmentation_network(
            *(self.workshop, "frontier-raw", RawLaw(self.classes), self.own),
            steps=self.steps,
        )
        drawn = [self._open(case) for case in self.audited]
        answers = [softmax(run(network, one["proxy"])) for one in drawn]
        masks = [np.asarray(answer.argmax(axis=0), np.uint8) for answer in answers]
        scores = self._losses(network, self.members)
        seen = ([one["proxy"] for one in drawn],)
        return self._point((RAW, 1, 0), drawn, masks, seen, [masks], scores)

    def remembered(self) -> float:
        """AUC by the loss alone of a network that knows a few people by heart."""
        few = evenly(self.own, OVERFITTED_PEOPLE)
        network = segmentation_network(
            *(self.workshop, "frontier-overfitted", RawLaw(self.classes), few), augment=False
        )
        scores = self._losses(network, few)
        return auc(scores, np.arange(len(scores)) < len(few))

    def _point(
        self,
        setting: tuple[str, float, int],
        drawn: Sequence[Arrays],
        kept: Sequence[Labels],
        images: Sequence[Sequence[Float32Array]],
        masks: Sequence[Sequence[Labels]],
        scores: NDArray[np.float64],
    ) -> Point:
        """From what the site keeps and what attackers find, images and masks by attacker."""
        truths = [one["image"] for one in drawn]
        labels = [np.asarray(one["target"].argmax(axis=0), np.uint8) for one in drawn]
        measured = {
            "dice": self._dice(kept, labels),
            "image": _best(self._interval(_ssim(some, truths)) for some in images),
            "mask": _best(self._dice(some, labels) for some in masks),
        }
        likeness = [of for some in images for of in correlated(some, self.gallery.images).values()]
        return Point(
            *setting,
            dice=measured["dice"].mean,
            image=measured["image"].mean,
            mask=measured["mask"].mean,
            identity=max(float(self.gallery.hits(of).mean()) for of in likeness),
            membership=auc(scores, np.arange(len(scores)) < len(self.members)),
            intervals={
                name: (rounded(found.low), rounded(found.high)) for name, found in measured.items()
            },
        )

    def _open(self, case: PreparedCase) -> Arrays:
        """An image as it is, where all weight is the patient's."""
        rng = np.random.default_rng(self.seed)  # nothing is drawn
        one = RawLaw(self.classes).example(fitted(case, self.tile), rng)
        nobody = np.zeros_like(one["target"])
        return one | {"coefficient": np.array(1.0), "reference_labels": nobody}

    def _losses(self, network: nn.Module, inside: Sequence[PreparedCase]) -> NDArray[np.float64]:
        """How well a network for raw images does: those who are in, then the audited."""
        people = [self._open(case) for case in (*inside, *self.audited)]
        return np.array([-_loss(one, softmax(run(network, one["proxy"]))) for one in people])

    def _memberships_by_chance(self, scores: NDArray[np.float64]) -> float:
        people = [case.patient for case in (*self.members, *self.audited)]
        inside = np.arange(len(people)) < len(self.members)
        return label_interval(scores, inside, people, auc, self.seed)[1]

    def _drawn(self, law: Law, case: PreparedCase, number: int) -> Arrays:
        rng = np.random.default_rng([self.seed, 11, number])
        one = law.example(fitted(case, self.tile), rng)
        return one | {"proxy": on_the_wire(one["proxy"])}

    @torch.no_grad()
    def _answer(self, proxy: Float32Array) -> Float32Array:
        with launch().autocast():
            found = self.scheme.server_network(torch.from_numpy(proxy)[None])
        answer: Float32Array = found[0].float().numpy()
        return answer

    @torch.no_grad()
    def _recovered(self, one: Arrays) -> Labels:
        """What the site makes of the answer; it knows its reference and the coefficient."""
        batch = {name: torch.from_numpy(np.asarray(array))[None] for name, array in one.items()}
        with launch().autocast():
            found = self.scheme.predict(batch)
        return np.asarray(found[0].argmax(dim=0).numpy(), dtype=np.uint8)

    def _dice(self, found: Sequence[Labels], labels: Sequence[Labels]) -> Interval:
        return self._interval(
            [
                mean_foreground(dice_per_class(one, truth, self.classes))
                for one, truth in zip(found, labels, strict=True)
            ]
        )

    def _by_chance(self, scores: NDArray[np.float64]) -> float:
        return permutation_interval(scores, self.seed)[1]

    def _interval(self, scores: Sequence[float]) -> Interval:
        return bootstrap_mean(scores, [case.patient for case in self.audited])


def _answered_by(scheme: nn.Module) -> Callable[[nn.Module, Batch], Tensor]:
    """The loss of an attacker who sees what the scheme's server answers."""
    assert isinstance(scheme, MixupTraining)

    def loss(network: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(network, Separator)
        with torch.no_grad():
            answer = scheme.server_network(batch["proxy"]).float()
        return network.loss(batch | {"answer": answer})

    return loss


def _ssim(images: Sequence[Float32Array], truths: Sequence[Float32Array]) -> list[float]:
    return [ssim(one, truth) for one, truth in zip(images, truths, strict=True)]


def _best(tried: Iterable[Interval]) -> Interval:
    return max(tried, key=lambda found: found.mean)


def _loss(one: Arrays, answer: Float32Array) -> float:
    """Cross-entropy of an answer and the mixed labels."""
    a = float(one["coefficient"])
    target = a * one["target"] + (1 - a) * one["reference_labels"]
    return float(-(target * np.log(np.maximum(answer, SMALLEST_PROBABILITY))).sum(axis=0).mean())
