"""Null controls: the same attack where there is nothing to find.

Proxies carry other people than they are said to. What an attack makes of them is scored against
those whom they are said to show; chance is the score against people drawn from a pool, none of
whom is in the proxies, not as a reference either.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from veilseg.audit.chance import permutation_interval
from veilseg.audit.findings import Control
from veilseg.audit.grids import fitted
from veilseg.audit.laws import Law, NobodyLaw, with_bases
from veilseg.audit.scene import Observation, evenly
from veilseg.audit.similarity import similarities
from veilseg.audit.workshop import Workshop
from veilseg.datasets.cases import PreparedCase
from veilseg.evaluation.dice import dice_per_class, mean_foreground
from veilseg.payload import Float32Array

OUTPUTS, POOL = 6, 12
WHAT = "proxies of other people"

Labels = NDArray[np.uint8]


def said_to_show(workshop: Workshop) -> list[PreparedCase]:
    """Whom the proxies of a null control are said to show."""
    return evenly(workshop.audited, OUTPUTS)


def carried(workshop: Workshop) -> list[PreparedCase]:
    """Whom they show: every second of the attacker's people. The others are the pool."""
    return _half(workshop, 0)


def pool(workshop: Workshop) -> list[PreparedCase]:
    """Who is in no proxy of a null control."""
    return _half(workshop, 1)


def of_carried(workshop: Workshop, law: Law) -> Law:
    """The law, its labelled references made of those only who may be carried."""
    people = [case for case in carried(workshop) if case.labels.any()]
    # A reference is another patient than whom it is for.
    return with_bases(law, people) if len({case.patient for case in people}) > 1 else law


def proxies_of_nobody(workshop: Workshop, law: Law, answered: bool = False) -> list[Observation]:
    """Proxies of a law that carry others than they are said to."""
    tile = workshop.scene.manifest.tile_shape
    people = [fitted(case, tile) for case in said_to_show(workshop)]
    nobody = NobodyLaw(of_carried(workshop, law), carried(workshop))
    return workshop.scene.simulate(nobody, people, answered)


def several_of_nobody(
    workshop: Workshop,
    people: Sequence[PreparedCase],
    others: Sequence[PreparedCase],
    count: int,
    answered: bool = False,
) -> list[list[Observation]]:
    """Several proxies of each image, as the site would make them: (count, people).

    Parameters
    ----------
    workshop : Workshop
    people : sequence of PreparedCase
        Whom the proxies are said to show.
    others : sequence of PreparedCase
        Whom they carry, in turn: all proxies of one image carry the same person.
    count : int
    answered : bool
        Whether to ask the server; else answers are empty.
    """
    scene = workshop.scene
    tile = scene.manifest.tile_shape
    drawn: list[list[Observation]] = [[] for _ in range(count)]
    for number, case in enumerate(people):
        law = NobodyLaw(of_carried(workshop, scene.law()), [others[number % len(others)]])
        same = [fitted(case, tile)] * count
        found = scene.simulate(law, same, answered, first=number * count)
        for one, of_draw in zip(found, drawn, strict=True):
            of_draw.append(one)
    return drawn


def null_of_images(
    workshop: Workshop, found: Sequence[Float32Array], window: tuple[slice, ...] = ()
) -> Control:
    """What was found in such proxies, by SSIM; ``window`` is what was looked at of a tile."""
    images = [case.image[window] for case in truths(workshop)]
    return null_control(workshop, similarities(found, images))


def null_of_masks(workshop: Workshop, found: Sequence[Labels]) -> Control:
    """What was found in such proxies or their answers, by Dice."""
    masks = [case.labels for case in truths(workshop)]
    return null_control(workshop, dices(found, masks, workshop.scene.classes))


def dices(found: Sequence[Labels], masks: Sequence[Labels], classes: int) -> NDArray[np.float64]:
    """Mean foreground Dice of every result to every mask: (n found, n masks)."""
    scores = np.array(
        [[mean_foreground(dice_per_class(one, truth, classes)) for truth in masks] for one in found]
    )
    # A case without foreground in truth and result has no Dice and says nothing.
    return np.asarray(np.nan_to_num(scores, nan=float(np.nanmean(scores))), dtype=np.float64)


def null_control(workshop: Workshop, scores: NDArray[np.float64]) -> Control:
    """From scores of every output to each of :func:`truths`: what was said against chance."""
    low, high = permutation_interval(scores, workshop.scene.seed)
    return Control(WHAT, float(np.diag(scores).mean()), low, high)


def truths(workshop: Workshop) -> list[PreparedCase]:
    """Those who are said to be shown, in order, then the pool."""
    people = [*said_to_show(workshop), *evenly(pool(workshop), POOL)]
    return [fitted(case, workshop.scene.manifest.tile_shape) for case in people]


def _half(workshop: Workshop, side: int) -> list[PreparedCase]:
    cases = workshop.scene.auxiliary
    patients = list(dict.fromkeys(case.patient for case in cases))
    wanted = set(patients[side::2])
    return [case for case in cases if case.patient in wanted]
