"""How much accuracy is kept for how much leakage, over the coefficient and number of references.

One set of networks for all points, each told the point: the scheme's own, fitted to all of them,
and two attackers'. So figures are comparable with each other, and a little below what networks for
one point alone would reach, on either side.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from veilseg.audit.attacks.membership import auc
from veilseg.audit.attacks.reidentification import CONTROL_RANK_1, correlated
from veilseg.audit.chance import hit_interval, permutation_interval
from veilseg.audit.findings import rounded
from veilseg.audit.grids import fitted
from veilseg.audit.laws import SETTINGS, Law, MixtureLaw, NobodyLaw, SweptLaw
from veilseg.audit.linear import LinearAttacker
from veilseg.audit.losses import SMALLEST_PROBABILITY
from veilseg.audit.nulls import dices
from veilseg.audit.reading_off import Labels, read_off
from veilseg.audit.scene import evenly, on_the_wire
from veilseg.audit.second_scans import second_acquisitions
from veilseg.audit.separator import Separator
from veilseg.audit.similarity import similarities, ssim
from veilseg.audit.workshop import Workshop
from veilseg.datasets.cases import PreparedCase
from veilseg.errors import WrongUsage
from veilseg.evaluation.bootstrap import Interval, bootstrap_mean
from veilseg.evaluation.dice import dice_per_class, mean_foreground
from veilseg.payload import Float32Array
from veilseg.schemes.mixup.training import MixupTraining
from veilseg.schemes.population import population_template
from veilseg.training.examples import Arrays
from veilseg.training.loader import Batch
from veilseg.training.processes import launch
from veilseg.training.recipe import Recipe

COEFFICIENTS = (0.2, 0.35, 0.5, 0.65, 0.8)
COUNTS = (1, 2, 3, 4)
LOWEST = 0.15
# Of the effort's steps: networks for all points need more than those for one.
LONGER = 2
RAW, NOTHING = "raw image", "no information"
# What attackers have to reach on raw images, or their failing elsewhere says nothing. Of masks, by
# so much more than where there is no information.
OF_RAW = {"image": 0.9, "identity": CONTROL_RANK_1}
LEAST_GAIN = 0.1


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
    image, mask, identity : float
        SSIM, Dice and rank-1 of the strongest attacker. None in documents where the ends show that
        it cannot be trusted: it fails on raw images, or finds somebody where nobody is.
    membership : float
        AUC of the loss alone, which also tells what makes people hard: A14 is the attack.
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


def frontier(workshop: Workshop) -> list[dict[str, object]]:
    """Every point as a document.

    Raises
    ------
    WrongUsage
        If the bundle mixes nothing.
    """
    scene = workshop.scene
    law = scene.law()
    if not isinstance(law, MixtureLaw):
        raise WrongUsage(
            f"--frontier: {scene.manifest.name} mixes nothing: there is nothing to sweep"
        )
    sweep = _Sweep(workshop, law)
    settings = [(a, count) for count in COUNTS for a in COEFFICIENTS]
    points = []
    for number, (a, count) in enumerate(settings):
        points.append(sweep.point("mixture", SweptLaw(law, (a, a), (count,)), a, count))
        workshop.report(number + 1, len(settings) + 2, "frontier")
    raw = sweep.point(RAW, SweptLaw(law, (1, 1), (1,)), 1, 0)
    half = SweptLaw(law, (0.5, 0.5), (1,))
    nothing = sweep.point(NOTHING, NobodyLaw(half, scene.auxiliary), 0, 1)
    untrusted = dict.fromkeys(_failed(raw, nothing, sweep.chance))
    workshop.report(len(settings) + 2, len(settings) + 2, "frontier")
    return [
        {
            name: rounded(value) if isinstance(value, float) else value
            for name, value in asdict(point).items()
        }
        | untrusted
        for point in (*points, raw, nothing)
    ]


def _failed(raw: Point, nothing: Point, chance: Mapping[str, float]) -> list[str]:
    """Channels whose attackers miss what is open, or find what is not there."""
    reached = {"image": raw.image, "mask": raw.mask, "identity": raw.identity}
    least = OF_RAW | {"mask": nothing.mask + LEAST_GAIN}
    return [
        channel
        for channel, value in reached.items()
        if value < least[channel] or getattr(nothing, channel) > chance[channel]
    ]


class _Sweep:
    """The networks for all points, and whom they are tried on."""

    def __init__(self, workshop: Workshop, law: MixtureLaw) -> None:
        scene = workshop.scene
        shape = len(scene.manifest.tile_shape), len(scene.manifest.channels), scene.classes
        everywhere = SweptLaw(law, (LOWEST, 1.0), COUNTS)
        steps = LONGER * workshop.effort.steps
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
        self.scene, self.scheme, self.attacker = scene, scheme, attacker
        self.classes, self.tile, self.seed = scene.classes, scene.manifest.tile_shape, scene.seed
        self.audited, self.gallery, _ = second_acquisitions(workshop)
        self.members = evenly(scene.members, len(self.audited))
        self.counts = max(COUNTS)
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
        scores = [of for some in seen for of in correlated(some, self.gallery.images).values()]
        measured = {
            "dice": self._dice([self._recovered(one) for one in drawn], labels),
            "image": _best(self._interval(_ssim(some, truths)) for some in seen),
            "mask": _best(self._dice(some, labels) for some in masks),
        }
        if what == NOTHING:
            self.chance = {
                "image": max(self._by_chance(similarities(some, truths)) for some in seen),
                "mask": max(self._by_chance(dices(some, labels, self.classes)) for some in masks),
                "identity": hit_interval(len(drawn), self.gallery.chance)[1],
            }
        return Point(
            *(what, coefficient, references),
            dice=measured["dice"].mean,
            image=measured["image"].mean,
            mask=measured["mask"].mean,
            identity=max(float(self.gallery.hits(of).mean()) for of in scores),
            membership=self._membership(law, drawn, answers),
            intervals={
                name: (rounded(found.low), rounded(found.high)) for name, found in measured.items()
            },
        )

    def _membership(
        self, law: Law, drawn: Sequence[Arrays], answers: Sequence[Float32Array]
    ) -> float:
        if not self.members:
            return float("nan")
        inside = [self._drawn(law, case, 10_000 + n) for n, case in enumerate(self.members)]
        answered = [self._answer(one["proxy"]) for one in inside]
        pairs = [*zip(inside, answered, strict=True), *zip(drawn, answers, strict=True)]
        scores = np.array([-_loss(one, answer) for one, answer in pairs])
        return auc(scores, np.arange(len(scores)) < len(inside))

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
