"""The other person in a mixture, where a site takes labelled cases as references.

What is left of a proxy once the patient's image is taken out of it is the reference's. A synthetic
reference shows nobody, and these attacks are not made.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from veilseg.audit.attacks.gallery import GalleryLaw, mixture_with
from veilseg.audit.attacks.mask_recovery import (
    EXACT_DICE,
    LEAST_GAIN,
    READ_OFF,
    dice_of_each,
    exact_answers,
    population_map,
)
from veilseg.audit.attacks.reidentification import CONTROL_RANK_1, DETAILS, correlated
from veilseg.audit.chance import rate
from veilseg.audit.findings import Control, DoesNotApply, Finding, Threat, rounded
from veilseg.audit.fitting import softmax
from veilseg.audit.grids import fitted
from veilseg.audit.laws import MixtureLaw, with_bases
from veilseg.audit.nulls import OUTPUTS, POOL, carried, dices, null_control, of_carried, pool
from veilseg.audit.reading_off import Labels, read_off, strongest
from veilseg.audit.registration import registered
from veilseg.audit.scene import Observation, evenly
from veilseg.audit.second_scans import Gallery
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
MASK = Finding(
    *("A16r", "Mask recovery of the reference", "mask", Threat(), "Dice"), person="reference"
)
LEFT = "what is left of the answer after A16"
# Whose mask weighs more in an exact answer can be read off it.
READ_OFF_COEFFICIENT = 0.3
# The reference is nearly all of the mixture.
CONTROL_COEFFICIENT, CONTROL_SSIM = 0.1, 0.95
MOST_REFERENCES = 60
# Every candidate takes as long as all comparisons.
MOST_REGISTERED = 10
REGISTERED = "registered"


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
    controls = _positive(workshop, best), _null(workshop, law, best)
    return [IMAGE.measured(overall, baseline, *controls, details)]


def mask(workshop: Workshop) -> list[Finding]:
    """Dice of the reference's mask, as it was mixed, by the stronger attacker."""
    scene, law = workshop.scene, _law(workshop)
    seen = workshop.observed()
    truths = [_mask(one) for one in seen]
    found = _masks(workshop, seen)
    scores = {name: dice_of_each(masks, truths, scene.classes) for name, masks in found.items()}
    best = max(scores, key=lambda name: float(np.nanmean(scores[name])))
    overall = bootstrap_mean(scores[best], [one.patient for one in seen])
    known = {
        "population-mean mask": [strongest(population_map(workshop))] * len(seen),
        "the patient's mask": [one.labels for one in seen],
    }
    baseline = {
        name: float(np.nanmean(dice_of_each(masks, truths, scene.classes)))
        for name, masks in known.items()
    }
    details = {
        "strongest": best,
        "dice": {name: rounded(float(np.nanmean(some))) for name, some in scores.items()},
    }
    drawn, said = _said(workshop, law)
    masks = [_mask(one) for one in drawn]
    null = null_control(workshop, dices(_masks(workshop, said)[best], masks, scene.classes))
    positive = _exactly(workshop, best, baseline["population-mean mask"])
    return [MASK.measured(overall, baseline, positive, null, details)]


def identity(workshop: Workshop) -> list[Finding]:
    """Rank-1 among the site's raw reference cases; each is mixed in by the site's law.

    By comparison, and by registering the candidates that compare best to each proxy.
    """
    scene, law = workshop.scene, _law(workshop)
    tile = scene.manifest.tile_shape
    cases = [
        fitted(PreparedCase("", one.patient, one.image, one.labels), tile)
        for one in evenly(scene.references, MOST_REFERENCES)
    ]
    own = np.arange(len(workshop.audited)) % len(cases)
    gallery = Gallery([c.image for c in cases], [c.patient for c in cases], own.tolist())
    mixed_in = [cases[number] for number in own]
    compared = _compared(workshop, _mixtures(workshop, law, mixed_in), cases, law.coefficient)
    hits = {name: gallery.hits(scores) for name, scores in compared.items()}
    best = max(hits, key=lambda name: float(np.mean(hits[name])))
    overall = rate(hits[best].tolist(), [cases[n].patient for n in own])
    easy = replace(law, coefficient=CONTROL_COEFFICIENT)
    shown = _mixtures(workshop, easy, mixed_in)
    known = gallery.hits(_compared(workshop, shown, cases, easy.coefficient)[best])
    what = f"{best}, of mixtures at a = {easy.coefficient:g}"
    positive = Control(what, float(known.mean()), low=CONTROL_RANK_1)
    others = [fitted(case, tile) for case in carried(workshop)]
    nobody = _mixtures(workshop, law, [others[n % len(others)] for n in range(len(own))])
    missed = gallery.hits(_compared(workshop, nobody, cases, law.coefficient)[best])
    null = gallery.null(missed, "references of other people")
    details = {
        "strongest": best,
        "rank_1": {name: rounded(float(values.mean())) for name, values in hits.items()},
    }
    finding = replace(IDENTITY, threat=Threat(gallery=len(gallery)))
    setting = "gallery: the site's raw reference cases"
    chance = {"chance": gallery.chance}
    return [finding.measured(overall, chance, positive, null, details, setting)]


def _law(workshop: Workshop) -> MixtureLaw:
    law = workshop.scene.law()
    if not isinstance(law, MixtureLaw):
        raise DoesNotApply("nothing is mixed")
    if not workshop.scene.references:
        raise DoesNotApply("references are synthetic: they show nobody")
    return law


def _proxies(workshop: Workshop, seen: Sequence[Observation]) -> list[Float32Array]:  # noqa: ARG001 - one interface
    return [one.proxy for one in seen]


def _remainders(workshop: Workshop, seen: Sequence[Observation]) -> list[Float32Array]:
    return _remainders_at(workshop, seen, workshop.scene.coefficient)


def _remainders_at(workshop: Workshop, seen: Sequence[Observation], a: float) -> list[Float32Array]:
    # For mixtures that no site sends, answers are not learned from.
    network = separator(workshop, a, sees_answer=a == workshop.scene.coefficient)
    found = [image for image, _ in separated(network, seen)]
    return [_left(one.proxy, x, a) for one, x in zip(seen, found, strict=True)]


ATTACKERS = {PROXY: _proxies, REMAINDER: _remainders}


def _left(proxy: Float32Array, patient: Float32Array, coefficient: float) -> Float32Array:
    return np.clip((proxy - coefficient * patient) / (1 - coefficient), 0, 1)


def _reference(one: Observation) -> Float32Array:
    assert one.reference is not None
    return one.reference


def _compared(
    workshop: Workshop, seen: Sequence[Observation], cases: Sequence[PreparedCase], a: float
) -> dict[str, NDArray[np.float64]]:
    gallery = [case.image for case in cases]
    of_proxies = correlated([one.proxy for one in seen], gallery)
    of_rest = correlated(_remainders_at(workshop, seen, a), gallery)
    found = {
        **{f"{name} of the proxy": scores for name, scores in of_proxies.items()},
        **{f"{name} after A5": scores for name, scores in of_rest.items()},
    }
    if workshop.effort.thorough:
        found[REGISTERED] = _registered(workshop, seen, cases, found[f"{DETAILS} after A5"], a)
    return found


def _registered(
    workshop: Workshop,
    seen: Sequence[Observation],
    cases: Sequence[PreparedCase],
    compared: NDArray[np.float64],
    a: float,
) -> NDArray[np.float64]:
    """How little it takes to explain each proxy by each of the likeliest candidates."""
    steps = workshop.effort.registration
    scores = np.full(compared.shape, -np.inf)
    for number, (one, alike) in enumerate(zip(seen, compared, strict=True)):
        likeliest = np.argsort(alike)[-MOST_REGISTERED:]
        candidates = [cases[index] for index in likeliest]
        scores[number, likeliest] = -registered(one.proxy, candidates, a, steps, warped=True).costs
        workshop.report(number + 1, len(seen), "A15r registration")
    return scores


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


def _positive(workshop: Workshop, best: str) -> Control:
    """The same attacker where little has to be subtracted."""
    scene, a = workshop.scene, CONTROL_COEFFICIENT
    seen = scene.simulate(scene.law(a), workshop.audited, answered=False)
    found = [one.proxy for one in seen]
    if best == REMAINDER:
        found = _remainders_at(workshop, seen, a)
    value = np.mean([ssim(image, _reference(one)) for image, one in zip(found, seen, strict=True)])
    return Control(f"{best}, of mixtures at a = {a:g}", float(value), low=CONTROL_SSIM)


def _null(workshop: Workshop, law: MixtureLaw, best: str) -> Control:
    """What the same attacker finds where proxies are said to have other references than theirs."""
    drawn, said = _said(workshop, law)
    truths = [_reference(one) for one in drawn]
    return null_control(workshop, similarities(ATTACKERS[best](workshop, said), truths))


def _said(workshop: Workshop, law: MixtureLaw) -> tuple[list[Observation], list[Observation]]:
    """References of mixtures that are not shown, the first of which others are said to have."""
    scene = workshop.scene
    tile = scene.manifest.tile_shape
    others = carried(workshop)
    drawn_for = [fitted(others[n % len(others)], tile) for n in range(OUTPUTS + POOL)]
    # Nobody who is said to be mixed in is.
    unused = with_bases(law, [case for case in pool(workshop) if case.labels.any()])
    drawn = replace(scene, seed=scene.seed + 1).simulate(unused, drawn_for, answered=False)
    people = [fitted(case, tile) for case in evenly(workshop.audited, OUTPUTS)]
    seen = scene.simulate(of_carried(workshop, law), people, answered=True)
    # Whoever looked at what is said to have been mixed in would find just that.
    return drawn, [
        replace(one, reference=other.reference, reference_labels=other.reference_labels)
        for one, other in zip(seen, drawn, strict=False)
    ]


def _masks(workshop: Workshop, seen: Sequence[Observation]) -> dict[str, list[Labels]]:
    a = workshop.scene.coefficient
    return {READ_OFF: [read_off(one.answer, 1 - a) for one in seen], LEFT: _rest(workshop, seen)}


def _rest(workshop: Workshop, seen: Sequence[Observation]) -> list[Labels]:
    """What answers say beside the patient's mask, as A16's network finds that."""
    a = workshop.scene.coefficient
    network = separator(workshop, a, sees_answer=True)
    patients = [softmax(logits) for _, logits in separated(network, seen)]
    return [strongest(one.answer - a * y) for one, y in zip(seen, patients, strict=True)]


def _exactly(workshop: Workshop, best: str, nobody: float) -> Control:
    """The same attacker, given answers without a mistake."""
    scene, seen = workshop.scene, workshop.observed()
    if best == READ_OFF:
        a, least = READ_OFF_COEFFICIENT, EXACT_DICE
        found = [read_off(answer, 1 - a) for answer in exact_answers(workshop, a)]
    else:
        a, least = scene.coefficient, nobody + LEAST_GAIN
        answers = exact_answers(workshop, a)
        exact = [replace(one, answer=answer) for one, answer in zip(seen, answers, strict=True)]
        found = _rest(workshop, exact)
    value = np.nanmean(dice_of_each(found, [_mask(one) for one in seen], scene.classes))
    return Control(f"{best}, of exact answers at a = {a:g}", float(value), low=least)


def _mask(one: Observation) -> Labels:
    assert one.reference_labels is not None
    return one.reference_labels
