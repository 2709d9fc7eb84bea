"""A1: the reference is a case of a gallery that the attacker has."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.random import Generator

from veilseg.audit.attacks.known_reference import known_reference
from veilseg.audit.attacks.registered_template import (
    CONTROL_SHARE,
    registered_template,
    without_reference,
)
from veilseg.audit.chance import hit_interval, rate
from veilseg.audit.findings import Control, DoesNotApply, Finding, NotRun, Occurs, Threat, rounded
from veilseg.audit.grids import fitted
from veilseg.audit.laws import MixtureLaw
from veilseg.audit.nulls import null_of_images, proxies_of_nobody
from veilseg.audit.registration import Guess, registered
from veilseg.audit.scene import Observation, evenly
from veilseg.audit.similarity import ssim
from veilseg.audit.workshop import Workshop
from veilseg.datasets.cases import PreparedCase
from veilseg.evaluation.bootstrap import bootstrap_mean
from veilseg.payload import Float32Array
from veilseg.schemes.references import Reference, labelled_reference
from veilseg.training.examples import Arrays

SMALL_GALLERY, CONTROL_HIT_RATE = 3, 0.9
EASY_COEFFICIENT = 0.2
FINDING = Finding(
    *("A1", "Gallery of references", "image"),
    Threat(gallery=SMALL_GALLERY, knows_networks=False),
    "hit rate",
)
# What is left of the mixture without the reference that was named.
LEFT = replace(FINDING, title="Image behind the named reference", metric="SSIM")
# Every candidate is registered to every proxy.
MOST_PEOPLE = 20
# Of the attacker's images: where more are empty, a patient's is taken to be.
EMPTY_SHARE = 0.5


Tried = tuple[Sequence[Guess], Sequence[Observation]]


@dataclass(frozen=True)
class GalleryLaw:
    """Mixtures whose reference is a given case, with or without the site's secret warp."""

    law: MixtureLaw
    base: PreparedCase
    warped: bool

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:
        reference = Reference(self.base.image, self.base.labels)
        if self.warped:
            reference = labelled_reference(reference, case.labels.shape, rng)
        return self.law.mixed(case, reference, rng)


def attack(workshop: Workshop) -> list[Finding]:
    """How often the right candidate is found, for references without and with the secret warp.

    Each candidate is registered to the mixture, by an affine map, a smooth displacement and a curve
    of intensities; the one is taken that needs the least bending and whose removal leaves the least
    total variation and the fewest values outside [0, 1]. What is left is an image of the patient,
    once the fill is taken from where most images are empty. And what a reference that is known
    gives.
    """
    scene = workshop.scene
    # One of the attacker's people is kept as the one whom no gallery has.
    most = len(workshop.scene.auxiliary) - 1
    sizes = [size for size in workshop.effort.galleries if size <= most]
    if not sizes:
        raise NotRun(f"the attacker has {most + 1} images: too few for a gallery")
    finding = replace(FINDING, threat=replace(FINDING.threat, gallery=sizes[-1]))
    law = scene.law()
    if not isinstance(law, MixtureLaw):
        raise DoesNotApply("nothing is mixed")
    tile = scene.manifest.tile_shape
    people = [fitted(case, tile) for case in evenly(workshop.audited, MOST_PEOPLE)]
    bases = [fitted(case, tile) for case in evenly(scene.auxiliary, sizes[-1] + 1)]
    absent, bases = bases[-1], bases[:-1]
    # Each is in turn the right one, and the next ones are the others of a smaller gallery.
    rights = [number % len(bases) for number in range(len(people))]
    guesses: dict[str, list[Guess]] = {}
    mixtures: dict[str, list[Observation]] = {}
    for warped, what in ((False, "no warp"), (True, "secret warp")):
        names = {size: f"{size} candidates, {what}" for size in sizes}
        seen: list[Observation] = []
        for number, (right, case) in enumerate(zip(rights, people, strict=True)):
            one = mixture_with(workshop, GalleryLaw(law, bases[right], warped), case, number)
            found = registered(
                one.proxy, bases, law.coefficient, workshop.effort.registration, warped
            )
            for size, name in names.items():
                among = [(right + further) % len(bases) for further in range(size)]
                guesses.setdefault(name, []).append(found.guess(among))
            seen.append(one)
            workshop.report(number + 1, len(people), f"A1 {what}")
        mixtures |= dict.fromkeys(names.values(), seen)
    emptied = _emptied(workshop)
    curves = {
        name: [float(guess.candidate == right) for guess, right in zip(some, rights, strict=True)]
        for name, some in guesses.items()
    }
    hits = {name: float(np.mean(curve)) for name, curve in curves.items()}
    images = {
        name: float(np.mean(_similar(emptied, some, mixtures[name])))
        for name, some in guesses.items()
    }
    # The registration itself has to work, where the reference is most of the mixture.
    easy = replace(law, coefficient=EASY_COEFFICIENT)
    named = _hits(workshop, easy, people, bases[:SMALL_GALLERY], warped=True)
    easier = f"{SMALL_GALLERY} candidates, secret warp, a = {EASY_COEFFICIENT:g}"
    positive = Control(easier, named, low=CONTROL_HIT_RATE)
    missed = _hits(workshop, law, people, bases[:SMALL_GALLERY], warped=False, of=absent)
    low, high = hit_interval(len(people), 1 / SMALL_GALLERY)
    null = Control("the reference is none of the candidates", missed, low, high)
    largest = f"{sizes[-1]} candidates, secret warp"
    overall = rate(curves[largest], [case.patient for case in people])
    details = {
        "hit_rate": {name: rounded(value) for name, value in hits.items()},
        "ssim": {name: rounded(value) for name, value in images.items()},
    }
    setting = f"labelled references of a public gallery: {largest}"
    chance = {"chance": 1 / sizes[-1]}
    occurs: Occurs = "by default" if scene.references else "if asked for"
    when: dict[str, Any] = {"setting": setting, "occurs": occurs}
    easiest = f"{sizes[0]} candidates, no warp"
    tried = [(guesses[name], mixtures[name]) for name in (largest, easiest)]
    return [
        finding.measured(overall, chance, positive, null, details, **when),
        replace(_left(workshop, law, bases, *tried), threat=finding.threat, **when),
        known_reference(workshop, law),
        *([] if law.template is None else [registered_template(workshop, law)]),
    ]


def _left(
    workshop: Workshop,
    law: MixtureLaw,
    bases: Sequence[PreparedCase],
    tried: Tried,
    easy: Tried,
) -> Finding:
    """The patient as the mixture shows it without the reference that was named, by SSIM."""
    a, steps = law.coefficient, workshop.effort.registration
    emptied = _emptied(workshop)
    seen, scores = tried[1], _similar(emptied, *tried)
    overall = bootstrap_mean(scores, [one.patient for one in seen])
    baseline = {
        "mean image": workshop.ssim_of_nobody(),
        "the proxy, emptied alike": float(
            np.mean([ssim(emptied(one.proxy), one.image) for one in seen])
        ),
    }
    # Not the whole patient: its background is filled before it is mixed.
    known = float(np.mean([ssim(without_reference(one, a), one.image) for one in easy[1]]))
    found = float(np.mean(_similar(emptied, *easy)))
    what = f"no warp (SSIM {known:.2f} for who has the reference as it was mixed)"
    positive = Control(what, found, low=CONTROL_SHARE * known)
    nobody = proxies_of_nobody(workshop, GalleryLaw(law, bases[0], warped=True))
    images = [
        emptied(registered(one.proxy, bases, a, steps, warped=True).guess().image) for one in nobody
    ]
    return LEFT.measured(overall, baseline, positive, null_of_images(workshop, images))


def _emptied(workshop: Workshop) -> Callable[[Float32Array], Float32Array]:
    """Takes the fills from where most of the attacker's images are empty."""
    scene = workshop.scene
    tile = scene.manifest.tile_shape
    empty = np.mean([fitted(case, tile).image == 0 for case in scene.auxiliary], axis=0)
    kept = np.asarray(empty <= EMPTY_SHARE, np.float32)
    return lambda image: image * kept


def _similar(
    emptied: Callable[[Float32Array], Float32Array],
    guesses: Sequence[Guess],
    seen: Sequence[Observation],
) -> list[float]:
    """SSIM of each patient as a guess leaves it."""
    return [ssim(emptied(g.image), one.image) for g, one in zip(guesses, seen, strict=True)]


def _hits(
    workshop: Workshop,
    law: MixtureLaw,
    people: Sequence[PreparedCase],
    bases: Sequence[PreparedCase],
    warped: bool,
    of: PreparedCase | None = None,
) -> float:
    """How often the candidate is named whose turn it is; ``of`` is mixed in, whoever's turn."""
    found = []
    for number, case in enumerate(people):
        right = number % len(bases)
        one = mixture_with(workshop, GalleryLaw(law, of or bases[right], warped), case, number)
        steps = workshop.effort.registration
        guess = registered(one.proxy, bases, law.coefficient, steps, warped).guess()
        found.append(guess.candidate == right)
    return float(np.mean(found))


def mixture_with(
    workshop: Workshop, law: GalleryLaw, case: PreparedCase, number: int, answered: bool = False
) -> Observation:
    """What a site sends of a case with a given reference, drawn by number."""
    scene = replace(workshop.scene, seed=workshop.scene.seed + number)
    (one,) = scene.simulate(law, [case], answered)
    return one
