"""A16: the patient's mask from the answer, from the proxy, and from both."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from veilseg.audit.attacks.averaging import means, separated_mean
from veilseg.audit.findings import Control, DoesNotApply, Finding, Threat, rounded
from veilseg.audit.grids import fitted
from veilseg.audit.nulls import (
    carried,
    null_of_masks,
    proxies_of_nobody,
    said_to_show,
    several_of_nobody,
)
from veilseg.audit.reading_off import (
    COARSE,
    Labels,
    read_off,
    strongest,
    strongest_class,
    unchanged,
)
from veilseg.audit.scene import Observation, Scene, evenly
from veilseg.audit.separator import easy_separator, separated, separator
from veilseg.audit.workshop import Workshop
from veilseg.evaluation.bootstrap import bootstrap_mean
from veilseg.evaluation.dice import dice_per_class, mean_foreground
from veilseg.payload import Float32Array
from veilseg.training.examples import one_hot

# By how much a trained network has to beat the mask of nobody where the proxy is nearly raw.
LEAST_GAIN = 0.1
# Of what is read off answers without any error.
EXACT_DICE = 0.99
READ_OFF, STRONGEST_READ_OFF = "read off the answer", "read off its strongest classes"
FROM_PROXY, FROM_BOTH = "network on proxy", "network on both"
MEAN_READ_OFF, FROM_MEAN = "read off the mean answer", "network on the mean proxy"
# Proxies of one image, where a site allows several.
SEVERAL = (4, 16)
# From which is learned where references have their masks.
DRAWN_REFERENCES = 60
FINDING = Finding("A16", "Mask recovery", "mask", Threat(), "Dice")
# Where classes of patient and reference can be told apart by their weights.
OTHER_COEFFICIENTS = (0.3, 0.7)


def attack(workshop: Workshop) -> list[Finding]:
    """Dice of the patient's mask by the strongest of several attackers.

    At the default coefficient, and at others that the bundle was trained for; from coarser answers,
    and from those to several proxies of one image.
    """
    if workshop.scene.encodes:
        raise DoesNotApply("A16e is for encoded answers")
    default = _found_at(workshop, workshop.scene.coefficient)
    if not workshop.scene.mixes:
        return [default]
    others = [_found_at(workshop, a) for a in _others(workshop.scene)]
    coarse = [_coarse(workshop, name, default) for name in COARSE]
    counts = SEVERAL if workshop.effort.thorough else SEVERAL[:1]
    return [default, *others, *coarse, *(_averaged(workshop, n, default) for n in counts)]


def _others(scene: Scene) -> list[float]:
    own = scene.coefficient
    low, high = scene.manifest.settings.get("coefficient_range", (own, own))
    return [a for a in OTHER_COEFFICIENTS if low <= a <= high and a != scene.coefficient]


def _found_at(workshop: Workshop, a: float) -> Finding:
    scene, seen = workshop.scene, workshop.observed(coefficient=a)
    found = recovered_masks(workshop, a, seen)
    truths = [one.labels for one in seen]
    scores = {name: dice_of_each(maps, truths, scene.classes) for name, maps in found.items()}
    best = max(scores, key=lambda name: _mean(scores[name]))
    overall = bootstrap_mean(scores[best], [one.patient for one in seen])
    population = [strongest(population_map(workshop))] * len(seen)
    baseline = {"population-mean mask": _mean(dice_of_each(population, truths, scene.classes))}
    if scene.mixes:
        of_others = [one.reference_labels for one in seen if one.reference_labels is not None]
        baseline["the reference's mask"] = _mean(dice_of_each(of_others, truths, scene.classes))
    details = {
        "strongest": best,
        "dice": {name: rounded(_mean(values)) for name, values in scores.items()},
        "volume_correlation": _volume_correlations(scene, found[best], truths),
    }
    positive = _positive(workshop, baseline["population-mean mask"], best)
    null = _null(workshop, a, best)
    if a == scene.coefficient:
        return FINDING.measured(overall, baseline, positive, null, details)
    return FINDING.measured(overall, baseline, positive, null, details, f"a = {a:g}", "never")


def _coarse(workshop: Workshop, name: str, default: Finding) -> Finding:
    """A server that answers less: what it then knows, and what the site then gets.

    A defence against whoever stores answers, not against the server: it has its own answer before
    it makes it coarse, and the network on the proxy alone never needs one.
    """
    scene = workshop.scene
    change = COARSE[name]
    seen = [replace(one, answer=change(one.answer)) for one in workshop.observed()]
    found = recovered_masks(workshop, scene.coefficient, seen, name)
    truths = [one.labels for one in seen]
    scores = {one: dice_of_each(maps, truths, scene.classes) for one, maps in found.items()}
    best = max(scores, key=lambda one: _mean(scores[one]))
    whole = [case.labels for case in workshop.audited]
    kept = {
        what: rounded(
            _mean(dice_of_each(scene.recovered(workshop.audited, how), whole, scene.classes))
        )
        for what, how in (("all probabilities", unchanged), (name, change))
    }
    details = {
        "strongest": best,
        "dice": {one: rounded(_mean(values)) for one, values in scores.items()},
        "dice_of_the_site": kept,
    }
    overall = bootstrap_mean(scores[best], [one.patient for one in seen])
    assert default.positive_control is not None
    controls = default.positive_control, _null(workshop, scene.coefficient, best, name)
    setting = f"answers: {name}"
    return FINDING.measured(overall, default.baseline, *controls, details, setting, "never")


def _averaged(workshop: Workshop, count: int, default: Finding) -> Finding:
    """What answers to several proxies of one image show: references' masks average away as well."""
    scene = workshop.scene
    seen = [scene.observe(workshop.audited, number) for number in range(count)]
    truths = [one.labels for one in seen[0]]
    found = _masks_of_means(workshop, seen)
    scores = {name: dice_of_each(maps, truths, scene.classes) for name, maps in found.items()}
    best = max(scores, key=lambda name: _mean(scores[name]))
    details = {
        "strongest": best,
        "dice": {name: rounded(_mean(values)) for name, values in scores.items()},
    }
    overall = bootstrap_mean(scores[best], [one.patient for one in seen[0]])
    nobody = several_of_nobody(workshop, said_to_show(workshop), carried(workshop), count, True)
    assert default.positive_control is not None
    controls = (
        default.positive_control,
        null_of_masks(workshop, _masks_of_means(workshop, nobody)[best]),
    )
    baseline = default.baseline | {"one proxy": default.value or 0.0}
    setting = f"{count} fresh proxies and their answers (--allow-repeat, --mixtures)"
    finding = replace(FINDING, threat=replace(FINDING.threat, proxies_per_subject=count))
    return finding.measured(overall, baseline, *controls, details, setting, "if asked for")


def _masks_of_means(
    workshop: Workshop, seen: Sequence[Sequence[Observation]]
) -> dict[str, list[Labels]]:
    """Masks from the mean proxies and answers of each case, by attacker."""
    of_others = (1 - workshop.scene.coefficient) * _reference_map(workshop)
    answers = [
        np.mean([one.answer for one in of_case], axis=0) for of_case in zip(*seen, strict=True)
    ]
    found = {MEAN_READ_OFF: [strongest(answer - of_others) for answer in answers]}
    if workshop.effort.thorough:
        mixed = means(seen)
        found[FROM_MEAN] = [strongest(separated_mean(workshop, z, len(seen))[1]) for z in mixed]
    return found


def recovered_masks(
    workshop: Workshop, coefficient: float, seen: Sequence[Observation], coarse: str = ""
) -> dict[str, list[Labels]]:
    """The patient's mask by every attacker, of each observation.

    A thorough attacker's network has learned by answers that are as ``coarse`` as those seen.
    """
    if not workshop.effort.thorough:
        coarse = ""
    found = {
        READ_OFF: [read_off(one.answer, coefficient) for one in seen],
        STRONGEST_READ_OFF: [read_off(strongest_class(one.answer), coefficient) for one in seen],
    }
    if workshop.scene.hides:
        for name, sees_answer in ((FROM_PROXY, False), (FROM_BOTH, True)):
            network = separator(workshop, coefficient, sees_answer, coarse if sees_answer else "")
            found[name] = [strongest(logits) for _, logits in separated(network, seen)]
    return found


def population_map(workshop: Workshop) -> Float32Array:
    """How frequent each class is at each voxel, among the attacker's own cases: (K, *tile)."""
    scene = workshop.scene
    tile = scene.manifest.tile_shape
    maps = [one_hot(fitted(case, tile).labels, scene.classes) for case in scene.auxiliary]
    return np.asarray(np.mean(maps, axis=0), dtype=np.float32)


def _reference_map(workshop: Workshop) -> Float32Array:
    """How frequent each class is in references, as the attacker draws them: (K, *tile)."""
    scene = workshop.scene
    people = evenly(scene.auxiliary, DRAWN_REFERENCES)
    drawn = scene.simulate(scene.law(), people, answered=False)
    maps = [
        one_hot(one.reference_labels, scene.classes)
        for one in drawn
        if one.reference_labels is not None
    ]
    return np.asarray(np.mean(maps, axis=0), dtype=np.float32)


def _positive(workshop: Workshop, nobody: float, best: str) -> Control:
    """The same attacker where its task is easy: the proxy is nearly the patient, or the answer is
    exact and says which class is whose.
    """
    scene = workshop.scene
    if scene.mixes and best in (READ_OFF, STRONGEST_READ_OFF):
        a = max(OTHER_COEFFICIENTS)
        read = [read_off(answer, a) for answer in exact_answers(workshop, a)]
        value = _mean(
            dice_of_each(read, [one.labels for one in workshop.observed()], scene.classes)
        )
        return Control(f"read off exact answers at a = {a:g}", value, low=EXACT_DICE)
    if not scene.hides:
        value = _mean(_of(workshop.observed(), scene.classes))
        return Control("the answer is the segmentation", value, low=nobody + LEAST_GAIN)
    network, law, what = easy_separator(workshop)
    seen = scene.simulate(law, workshop.audited, answered=False)
    maps = [strongest(logits) for _, logits in separated(network, seen)]
    value = _mean(dice_of_each(maps, [one.labels for one in seen], scene.classes))
    return Control(f"network on {what}", value, low=nobody + LEAST_GAIN)


def exact_answers(workshop: Workshop, coefficient: float) -> list[Float32Array]:
    """What a server that makes no mistake would answer to mixtures of the audited."""
    a, classes = coefficient, workshop.scene.classes
    answers = []
    for one in workshop.observed():
        assert one.reference_labels is not None
        of_patient, of_reference = (
            one_hot(labels, classes) for labels in (one.labels, one.reference_labels)
        )
        answers.append(a * of_patient + (1 - a) * of_reference)
    return answers


def _null(
    workshop: Workshop,
    coefficient: float,
    best: str,
    coarse: str = "",
) -> Control:
    """The same attack on proxies of other people, scored as if they were of the audited."""
    nobody = proxies_of_nobody(workshop, workshop.scene.law(coefficient), answered=True)
    change = COARSE.get(coarse, unchanged)
    seen = [replace(one, answer=change(one.answer)) for one in nobody]
    return null_of_masks(workshop, recovered_masks(workshop, coefficient, seen, coarse)[best])


def _of(seen: Sequence[Observation], classes: int) -> list[float]:
    return dice_of_each(
        [strongest(one.answer) for one in seen], [one.labels for one in seen], classes
    )


def dice_of_each(found: Sequence[Labels], truths: Sequence[Labels], classes: int) -> list[float]:
    """Mean foreground Dice of each result to its own truth."""
    return [_dice(one, truth, classes) for one, truth in zip(found, truths, strict=True)]


def _dice(found: Labels, truth: Labels, classes: int) -> float:
    return mean_foreground(dice_per_class(found, truth, classes))


def _mean(values: Sequence[float]) -> float:
    return float(np.nanmean(values))


def _volume_correlations(
    scene: Scene, found: Sequence[Labels], truths: Sequence[Labels]
) -> dict[str, float | None]:
    """Pearson's r of each structure's volume in what was found and in the truth."""
    correlations = {}
    for number, label in enumerate(scene.manifest.labels[1:], start=1):
        volumes = np.array(
            [[np.count_nonzero(maps == number) for maps in both] for both in (found, truths)]
        )
        told = len(found) > 2 and volumes.std(axis=1).all()
        correlations[label.name] = rounded(np.corrcoef(volumes)[0, 1]) if told else None
    return correlations
