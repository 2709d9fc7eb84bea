"""A2: several proxies of one image, averaged."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from veilseg.audit.findings import Control, DoesNotApply, Finding, Threat, rounded
from veilseg.audit.laws import Law
from veilseg.audit.linear import LinearAttacker
from veilseg.audit.nulls import carried, null_of_images, said_to_show, several_of_nobody
from veilseg.audit.scene import Observation
from veilseg.audit.separator import Separator, separator
from veilseg.audit.similarity import psnr_db, ssim
from veilseg.audit.workshop import Workshop
from veilseg.datasets.cases import PreparedCase
from veilseg.evaluation.bootstrap import bootstrap_difference, bootstrap_mean
from veilseg.payload import Float32Array
from veilseg.training.examples import Arrays

COUNTS = (1, 2, 4, 8, 16)
FINDING = Finding(
    "A2", "Averaging several proxies", "image", Threat(proxies_per_subject=max(COUNTS)), "SSIM"
)
# In SSIM, where sixteen proxies are averaged.
LEAST_GAIN = 0.05
LINEAR, MEDIAN = "linear attacker", "linear attacker on the median"
TRAINED, SINGLE = "trained network", "network for one proxy (A5)"

# Proxies of one image (K, C, *tile) to an image (C, *tile).
Attacker = Callable[[Float32Array], Float32Array]
# As numpy's mean and median.
Middle = Callable[..., Float32Array]


@dataclass(frozen=True)
class MeanLaw:
    """The mean of several proxies of one image, and of how many: one of ``counts``.

    Or what else lies in their middle: the median.
    """

    law: Law
    counts: tuple[int, ...]
    middle: Middle = np.mean

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:
        count = int(rng.choice(self.counts))
        drawn = [self.law.example(case, rng) for _ in range(count)]
        setting = np.full((1, *case.labels.shape), 1 / count, np.float32)
        middle = self.middle([one["proxy"] for one in drawn], axis=0)
        return drawn[0] | {"proxy": middle, "setting": setting}


def attack(workshop: Workshop) -> list[Finding]:
    """SSIM that the strongest of some attackers reaches on K proxies of one image.

    Twice: with proxies as they are by default, memoised, and with fresh ones, which a site sends
    with ``--allow-repeat`` or ``--mixtures``.
    """
    scene = workshop.scene
    if not scene.varies:
        raise DoesNotApply("an image has one proxy: there is nothing to average")
    if not scene.averages:
        raise DoesNotApply("deformed proxies do not lie over each other: their voxels have no mean")
    counts = counts_of(workshop)
    audited = workshop.audited
    seen = [scene.observe(audited, number, answered=False) for number in range(counts[-1])]
    truths = [one.image for one in seen[0]]
    patients = [one.patient for one in seen[0]]
    stacked = {count: _stacked(seen[:count]) for count in counts}
    found = {count: _attackers(workshop, count) for count in counts}
    tried = {
        count: {name: [of(some) for some in stacked[count]] for name, of in found[count].items()}
        for count in counts
    }
    scores = {
        count: {name: _ssim(images, truths) for name, images in some.items()}
        for count, some in tried.items()
    }
    best = {count: max(some, key=lambda name: _mean(some[name])) for count, some in scores.items()}
    most, one_proxy = counts[-1], scores[1][best[1]]
    gain = bootstrap_difference(scores[most][best[most]], one_proxy, patients)
    works = Control(
        f"{most} fresh proxies against one: lower end of the gain", gain.low, low=LEAST_GAIN
    )
    nobody = several_of_nobody(workshop, said_to_show(workshop), carried(workshop), most)
    null = null_of_images(workshop, [found[most][best[most]](some) for some in _stacked(nobody)])
    details = {
        "strongest": best[most],
        "ssim": {str(count): rounded(_mean(scores[count][best[count]])) for count in counts},
        "ssim_linear": {str(count): rounded(_mean(scores[count][LINEAR])) for count in counts},
        "ssim_by_attacker": {name: rounded(_mean(some)) for name, some in scores[most].items()},
        "psnr_db": {
            str(count): rounded(_mean(_psnr(tried[count][best[count]], truths))) for count in counts
        },
    }
    # An image that is sent twice: the site makes its proxy anew, and it is the same.
    twice = _stacked([scene.observe(audited, answered=False) for _ in range(2)])
    mean_of_both = [some.mean(axis=0, keepdims=True) for some in twice]
    repeated = bootstrap_difference(
        _ssim([found[1][best[1]](mean) for mean in mean_of_both], truths), one_proxy, patients
    )
    again = replace(FINDING, metric="SSIM gained over one proxy", setting="memoised")
    return [
        FINDING.measured(
            bootstrap_mean(scores[most][best[most]], patients),
            *(
                {"mean image": workshop.ssim_of_nobody(), "one proxy": _mean(one_proxy)},
                works,
                null,
                details,
            ),
            setting=f"{most} fresh proxies of one image (--allow-repeat, --mixtures)",
            occurs="if asked for",
        ),
        again.measured(repeated, {"fresh proxies": gain.mean}, works, null),
    ]


def _attackers(workshop: Workshop, count: int) -> dict[str, Attacker]:
    """What is made of so many proxies, by name."""
    attackers = {LINEAR: _linear(workshop, count, np.mean)}
    if count > 2:  # of two the median is the mean
        attackers[MEDIAN] = _linear(workshop, count, np.median)
    if count == 1 and workshop.scene.hides:
        network = separator(workshop, workshop.scene.coefficient, sees_answer=False)
        attackers[SINGLE] = lambda proxies: network.separate(proxies[0])[0]
    if workshop.effort.thorough:
        attackers[TRAINED] = lambda proxies: separated_mean(workshop, proxies.mean(0), count)[0]
    return attackers


def _linear(workshop: Workshop, count: int, middle: Middle) -> Attacker:
    law = MeanLaw(workshop.scene.law(), (count,), middle)
    attacker = LinearAttacker.fitted(workshop.scene, law)
    return lambda proxies: attacker(middle(proxies, axis=0))


def separated_mean(
    workshop: Workshop, mean: Float32Array, count: int
) -> tuple[Float32Array, Float32Array]:
    """Image and class logits that a network, trained once, finds in the mean of some proxies."""
    scene = workshop.scene
    shape = len(scene.manifest.tile_shape), len(scene.manifest.channels), scene.classes
    network = workshop.trained(
        "separator-means",
        lambda: Separator(*shape, {"setting": 1}),
        MeanLaw(scene.law(), counts_of(workshop)),
        lambda network, batch: network.loss(batch),  # type: ignore[operator]  # a Separator
    )
    assert isinstance(network, Separator)
    setting = np.full((1, *mean.shape[1:]), 1 / count, np.float32)
    return network.separate(mean, setting)


def counts_of(workshop: Workshop) -> tuple[int, ...]:
    """How many proxies are averaged, rising."""
    return tuple(count for count in COUNTS if count <= workshop.effort.proxies)


def means(seen: Sequence[Sequence[Observation]]) -> list[Float32Array]:
    """The mean proxy of each case over its proxies."""
    return [some.mean(axis=0) for some in _stacked(seen)]


def _stacked(seen: Sequence[Sequence[Observation]]) -> list[Float32Array]:
    """The proxies of each case, (K, C, *tile)."""
    return [np.stack([one.proxy for one in of_case]) for of_case in zip(*seen, strict=True)]


def _ssim(images: Sequence[Float32Array], truths: Sequence[Float32Array]) -> list[float]:
    return [ssim(image, truth) for image, truth in zip(images, truths, strict=True)]


def _psnr(images: Sequence[Float32Array], truths: Sequence[Float32Array]) -> list[float]:
    return [psnr_db(image, truth) for image, truth in zip(images, truths, strict=True)]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
