"""The other person in a mixture, where a site takes labelled cases as references.

What is left of a proxy once the patient's image is taken out of it is the reference's. A synthetic
reference shows nobody, and these attacks are not made.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from veilseg.audit.attacks.gallery import GalleryLaw, mixture_with
from veilseg.audit.attacks.reidentification import CONTROL_RANK_1, correlated
from veilseg.audit.chance import hit_interval, rate
from veilseg.audit.findings import Control, Finding, NotRun, Threat, rounded
from veilseg.audit.grids import fitted
from veilseg.audit.laws import MixtureLaw
from veilseg.audit.linear import LinearAttacker
from veilseg.audit.nulls import OUTPUTS, POOL, carried, null_control
from veilseg.audit.scene import Observation, evenly
from veilseg.audit.separator import separated, separator
from veilseg.audit.similarity import similarities, ssim
from veilseg.audit.workshop import Workshop, mean_image
from veilseg.datasets.cases import PreparedCase
from veilseg.evaluation.bootstrap import bootstrap_mean
from veilseg.payload import Float32Array

PROXY, REMAINDER = "the proxy itself", "what is left after A5"
IMAGE = Finding(
    *("A5r", "Supervised separation of the reference", "image", Threat(), "SSIM"),
    person="reference",
)
IDENTITY = Finding(
    *("A15r", "Re-identification of the reference", "identity", Threat(gallery=1), "rank-1"),
    person="reference",
)
# The reference is nearly all of the mixture.
CONTROL_COEFFICIENT, CONTROL_SSIM = 0.1, 0.95
MOST_REFERENCES = 60


def image(workshop: Workshop) -> list[Finding]:
    """SSIM of the reference, warped and recoloured as it was mixed, by the stronger attacker."""
    scene, law = workshop.scene, _law(workshop)
    seen = workshop.observed()
    truths = [_reference(one) for one in seen]
    found = {name: attack_on(workshop, seen) for name, attack_on in ATTACKERS.items()}
    scores = {
        name: [ssim(one, truth) for one, truth in zip(images, truths, strict=True)]
        for name, images in found.items()
    }
    best = max(scores, key=lambda name: float(np.mean(scores[name])))
    overall = bootstrap_mean(scores[best], [one.patient for one in seen])
    mean = mean_image(scene.auxiliary, scene.manifest.tile_shape)
    baseline = {"mean image": float(np.mean([ssim(mean, truth) for truth in truths]))}
    details = {"ssim": {name: rounded(float(np.mean(some))) for name, some in scores.items()}}
    controls = _positive(workshop), _null(workshop, law, best)
    return [IMAGE.measured(overall, baseline, *controls, details)]


def identity(workshop: Workshop) -> list[Finding]:
    """Rank-1 among the site's raw reference cases; each is mixed in by the site's law."""
    scene, law = workshop.scene, _law(workshop)
    tile = scene.manifest.tile_shape
    cases = [
        fitted(PreparedCase("", one.patient, one.image, one.labels), tile)
        for one in evenly(scene.references, MOST_REFERENCES)
    ]
    gallery = [case.image for case in cases]
    own = np.arange(len(workshop.audited)) % len(gallery)
    seen = _mixtures(workshop, law, [cases[number] for number in own])
    hits = {
        name: scores.argmax(axis=1) == own
        for name, scores in _compared(workshop, seen, gallery).items()
    }
    best = max(hits, key=lambda name: float(np.mean(hits[name])))
    overall = rate(hits[best].astype(float).tolist(), [cases[n].patient for n in own])
    known = max(
        float((scores.argmax(axis=1) == own).mean())
        for scores in correlated([_reference(one) for one in seen], gallery).values()
    )
    positive = Control("the reference as it was mixed", known, low=CONTROL_RANK_1)
    others = [fitted(case, tile) for case in carried(workshop)]
    nobody = _mixtures(workshop, law, [others[n % len(others)] for n in range(len(own))])
    missed = float((_compared(workshop, nobody, gallery)[best].argmax(axis=1) == own).mean())
    low, high = hit_interval(len(own), 1 / len(gallery))
    null = Control("references of other people", missed, low, high)
    details = {
        "strongest": best,
        "rank_1": {name: rounded(float(values.mean())) for name, values in hits.items()},
    }
    finding = replace(IDENTITY, threat=Threat(gallery=len(gallery)))
    setting = "gallery: the site's raw reference cases"
    chance = {"chance": 1 / len(gallery)}
    return [finding.measured(overall, chance, positive, null, details, setting)]


def _law(workshop: Workshop) -> MixtureLaw:
    law = workshop.scene.law()
    if not isinstance(law, MixtureLaw):
        raise NotRun("nothing is mixed")
    if not workshop.scene.references:
        raise NotRun("references are synthetic: they show nobody")
    return law


def _proxies(workshop: Workshop, seen: Sequence[Observation]) -> list[Float32Array]:  # noqa: ARG001 - one interface
    return [one.proxy for one in seen]


def _remainders(workshop: Workshop, seen: Sequence[Observation]) -> list[Float32Array]:
    network = separator(workshop, workshop.scene.coefficient, sees_answer=True)
    a = workshop.scene.coefficient
    found = [image for image, _ in separated(network, seen)]
    return [_left(one.proxy, x, a) for one, x in zip(seen, found, strict=True)]


ATTACKERS = {PROXY: _proxies, REMAINDER: _remainders}


def _left(proxy: Float32Array, patient: Float32Array, coefficient: float) -> Float32Array:
    return np.clip((proxy - coefficient * patient) / (1 - coefficient), 0, 1)


def _reference(one: Observation) -> Float32Array:
    assert one.reference is not None
    return one.reference


def _compared(
    workshop: Workshop, seen: Sequence[Observation], gallery: Sequence[Float32Array]
) -> dict[str, NDArray[np.float64]]:
    of_proxies = correlated([one.proxy for one in seen], gallery)
    of_rest = correlated(_remainders(workshop, seen), gallery)
    return {
        **{f"{name} of the proxy": scores for name, scores in of_proxies.items()},
        **{f"{name} after A5": scores for name, scores in of_rest.items()},
    }


def _mixtures(
    workshop: Workshop, law: MixtureLaw, bases: Sequence[PreparedCase]
) -> list[Observation]:
    """Of each audited case with a reference made of a given one."""
    tile = workshop.scene.manifest.tile_shape
    laws = [GalleryLaw(law, base, warped=True) for base in bases]
    return [
        mixture_with(workshop, law, fitted(case, tile), number, answered=True)
        for number, (law, case) in enumerate(zip(laws, workshop.audited, strict=True))
    ]


def _positive(workshop: Workshop) -> Control:
    """The same subtraction where little has to be subtracted."""
    scene = workshop.scene
    law = scene.law(CONTROL_COEFFICIENT)
    linear = LinearAttacker.fitted(scene, law)
    seen = scene.simulate(law, workshop.audited, answered=False)
    found = [_left(one.proxy, linear(one.proxy), CONTROL_COEFFICIENT) for one in seen]
    value = np.mean([ssim(image, _reference(one)) for image, one in zip(found, seen, strict=True)])
    what = f"linear attacker on mixtures at a = {CONTROL_COEFFICIENT:g}"
    return Control(what, float(value), low=CONTROL_SSIM)


def _null(workshop: Workshop, law: MixtureLaw, best: str) -> Control:
    """What the same attacker finds where proxies are said to have other references than theirs."""
    scene = workshop.scene
    tile = scene.manifest.tile_shape
    others = carried(workshop)
    drawn_for = [fitted(others[n % len(others)], tile) for n in range(OUTPUTS + POOL)]
    drawn = replace(scene, seed=scene.seed + 1).simulate(law, drawn_for, answered=False)
    truths = [_reference(one) for one in drawn]
    people = [fitted(case, tile) for case in evenly(workshop.audited, OUTPUTS)]
    seen = scene.simulate(law, people, answered=True)
    # Whoever looked at what is said to have been mixed in would find just that.
    said = [replace(one, reference=truth) for one, truth in zip(seen, truths, strict=False)]
    return null_control(workshop, similarities(ATTACKERS[best](workshop, said), truths))
