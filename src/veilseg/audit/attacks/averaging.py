"""A2: several proxies of one image, averaged."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from veilseg.audit.findings import Control, DoesNotApply, Finding, Threat, rounded
from veilseg.audit.laws import Law
from veilseg.audit.linear import LinearAttacker
from veilseg.audit.nulls import null_of_images, proxies_of_nobody
from veilseg.audit.scene import Observation
from veilseg.audit.separator import Separator
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
LINEAR, TRAINED = "linear attacker", "trained network"

Attacker = Callable[[Float32Array], Float32Array]


@dataclass(frozen=True)
class MeanLaw:
    """The mean of several proxies of one image, and of how many: one of ``counts``."""

    law: Law
    counts: tuple[int, ...]

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:
        count = int(rng.choice(self.counts))
        drawn = [self.law.example(case, rng) for _ in range(count)]
        setting = np.full((1, *case.labels.shape), 1 / count, np.float32)
        mean = np.mean([one["proxy"] for one in drawn], axis=0)
        return drawn[0] | {"proxy": mean, "setting": setting}


def attack(workshop: Workshop) -> list[Finding]:
    """SSIM that the stronger of two attackers reaches on the mean of K proxies of one image.

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
    averaged = {count: means(seen[:count]) for count in counts}
    found = {count: _attackers(workshop, count) for count in counts}
    tried = {
        count: {name: [of(mean) for mean in averaged[count]] for name, of in found[count].items()}
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
    nobody = proxies_of_nobody(workshop, MeanLaw(scene.law(), (most,)))
    null = null_of_images(workshop, [found[most][best[most]](one.proxy) for one in nobody])
    details = {
        "strongest": best[most],
        "ssim": {str(count): rounded(_mean(scores[count][best[count]])) for count in counts},
        "ssim_linear": {str(count): rounded(_mean(scores[count][LINEAR])) for count in counts},
        "psnr_db": {
            str(count): rounded(_mean(_psnr(tried[count][best[count]], truths))) for count in counts
        },
    }
    # An image that is sent twice: the site makes its proxy anew, and it is the same.
    twice = means([scene.observe(audited, answered=False) for _ in range(2)])
    repeated = bootstrap_difference(
        _ssim([found[1][best[1]](mean) for mean in twice], truths), one_proxy, patients
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
    """What is made of a mean of so many proxies, by name."""
    scene = workshop.scene
    attackers: dict[str, Attacker] = {
        LINEAR: LinearAttacker.fitted(scene, MeanLaw(scene.law(), (count,)))
    }
    if workshop.effort.thorough:
        attackers[TRAINED] = lambda mean: separated_mean(workshop, mean, count)[0]
    return attackers


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
    return [
        np.mean([one.proxy for one in of_case], axis=0, dtype=np.float32)
        for of_case in zip(*seen, strict=True)
    ]


def _ssim(images: Sequence[Float32Array], truths: Sequence[Float32Array]) -> list[float]:
    return [ssim(image, truth) for image, truth in zip(images, truths, strict=True)]


def _psnr(images: Sequence[Float32Array], truths: Sequence[Float32Array]) -> list[float]:
    return [psnr_db(image, truth) for image, truth in zip(images, truths, strict=True)]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
