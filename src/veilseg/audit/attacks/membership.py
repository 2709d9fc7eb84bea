"""A14: was this person among those whom the server's network was trained on?"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu
from torch import Tensor, nn

from veilseg.audit.chance import label_interval
from veilseg.audit.encodings import EncodedSegmenter, FreshEncodings, decoded, layout_of
from veilseg.audit.findings import Control, Finding, NotRun, Threat, rounded
from veilseg.audit.fitting import run
from veilseg.audit.grids import fitted
from veilseg.audit.laws import EncodedLaw, Law, RawLaw
from veilseg.audit.scene import Observation, evenly
from veilseg.audit.workshop import Workshop, attack_batch_size
from veilseg.datasets.cases import PreparedCase
from veilseg.evaluation.bootstrap import LEVEL, Interval
from veilseg.networks.segmenter import Segmenter
from veilseg.payload import Float32Array
from veilseg.training.examples import one_hot
from veilseg.training.loader import Batch
from veilseg.training.losses import soft_target_loss

FINDING = Finding("A14", "Membership", "membership", Threat(candidate_image=True), "AUC")
# Proxies of each candidate whose losses are averaged: the attacker makes as many as it likes.
PROXIES_PER_CANDIDATE = 4
RESAMPLES = 2000
SHADOW_PART = 3  # of the steps, which are meant for harder tasks
FALSE_POSITIVE_RATE = 0.01
# A network that has seen four people, over and over, without augmentation.
OVERFITTED_PEOPLE, CONTROL_AUC = 4, 0.9
SMALLEST_PROBABILITY = 1e-6
LOSS, CALIBRATED = "loss", "loss, calibrated by a shadow network"


def attack(workshop: Workshop) -> list[Finding]:
    """AUC by which the network's loss tells its training patients from others.

    The attacker holds a candidate's image and labels, makes proxies of it and looks at how well the
    network answers: compared with how well a network of its own does, fitted to other people, which
    says how hard the candidate is. Members and others may differ in more than that the network has
    seen them, by site or by age of the scanner: so a second network of the attacker, which has seen
    neither, must not tell them apart.

    Of encodings it is membership in the fit of the mapping network: shadows are fitted to the same
    encoder's encodings, so that what the encoder itself remembers is not looked for.
    """
    scene = workshop.scene
    if not scene.members:
        raise NotRun("not the data the bundle was trained on: who was in is unknown")
    first, second, candidates = _thirds(scene.members)
    if not first or not second or not candidates:
        raise NotRun("fewer than three patients were trained on")
    members, others = evenly(candidates, workshop.effort.audited), workshop.audited
    law = scene.law()
    groups = [_observed(workshop, law, people) for people in (members, others)]
    people = [case.patient for case in (*members, *others)]
    member = np.arange(len(people)) < len(members)
    shadows = [
        _network(workshop, f"shadow-{number}", law, own)
        for number, own in enumerate((first, second))
    ]
    statistic, rehearsed = _rehearsed(workshop, law, shadows, (first, second))

    all_of_server = _all_losses(groups, scene.coefficient)
    all_of_shadow = [
        _all_losses([_answered_by(shadow, group) for group in groups], scene.coefficient)
        for shadow in shadows
    ]
    calibrated = {
        name: np.mean([losses[name] for losses in all_of_shadow], axis=0) - all_of_server[name]
        for name in STATISTICS
    }
    of_server = all_of_server[statistic]
    of_shadow = [losses[statistic] for losses in all_of_shadow]
    scores = {LOSS: -of_server, CALIBRATED: calibrated[statistic]}
    found = {name: auc(values, member) for name, values in scores.items()}
    # What an uncalibrated loss tells, networks that saw neither may tell as well.
    best = CALIBRATED
    overall = _bootstrap_auc(scores[best], member, people, scene.seed)
    unseen = of_shadow[1] - of_shadow[0]
    low, high = label_interval(unseen, member, people, auc, scene.seed)
    null = Control("a network that saw neither", auc(unseen, member), low, high)
    details = {
        "statistic": statistic,
        "auc": {name: rounded(value) for name, value in found.items()},
        "auc_of_shadows": [rounded(auc(-losses, member)) for losses in of_shadow],
        "auc_by_statistic": {
            name: rounded(auc(values, member)) for name, values in calibrated.items()
        },
        "auc_in_rehearsal": {name: rounded(value) for name, value in rehearsed.items()},
        "tpr_at_1_percent_fpr": rounded(true_positive_rate(scores[best], member)),
        "non_members": len(others),
    }
    # The labels are compared with what a site decodes.
    finding = replace(FINDING, threat=replace(FINDING.threat, colluding_site=scene.encodes))
    positive = _positive(workshop)
    return [finding.measured(overall, {"chance": 0.5}, positive, null, details)]


def _rehearsed(
    workshop: Workshop,
    law: Law,
    shadows: Sequence[nn.Module],
    of_shadows: Sequence[Sequence[PreparedCase]],
) -> tuple[str, dict[str, float]]:
    """Which statistic of the loss map tells best whom a shadow was trained on, calibrated by the
    other: the attacker chooses by networks of its own, of which it knows who was in.
    """
    scene = workshop.scene
    groups = [[scene.simulate(law, people, answered=False)] for people in of_shadows]
    in_first = np.arange(sum(map(len, of_shadows))) < len(of_shadows[0])
    first, second = (
        _all_losses([_answered_by(shadow, group) for group in groups], scene.coefficient)
        for shadow in shadows
    )
    told = {name: auc(second[name] - first[name], in_first) for name in STATISTICS}
    return max(told, key=lambda name: told[name]), told


def _thirds(
    members: Sequence[PreparedCase],
) -> tuple[list[PreparedCase], list[PreparedCase], list[PreparedCase]]:
    """Whole patients, dealt out in turn: for one shadow, the other, and as candidates."""
    names = list(dict.fromkeys(case.patient for case in members))
    groups = [set(names[part::3]) for part in range(3)]
    first, second, third = ([c for c in members if c.patient in group] for group in groups)
    return first, second, third


def _all_losses(
    groups: Sequence[list[list[Observation]]], coefficient: float
) -> dict[str, NDArray[np.float64]]:
    """Each statistic of each candidate's loss maps, mean over draws."""
    maps = [
        [[_loss_map(one, coefficient) for one in of_case] for of_case in zip(*group, strict=True)]
        for group in groups
    ]
    return {
        name: np.array(
            [
                np.mean([statistic(*drawn) for drawn in of_case])
                for group in maps
                for of_case in group
            ]
        )
        for name, statistic in STATISTICS.items()
    }


def auc(scores: NDArray[np.float64], member: NDArray[np.bool_]) -> float:
    """How likely a member scores higher than another; ties count half."""
    inside, outside = scores[member], scores[~member]
    if not inside.size or not outside.size:
        return float("nan")
    return float(mannwhitneyu(inside, outside).statistic / (inside.size * outside.size))


def true_positive_rate(scores: NDArray[np.float64], member: NDArray[np.bool_]) -> float:
    """Share of members above the score that 1 % of the others reach: fewer than 100 reach it as
    if they were none.
    """
    allowed = int(FALSE_POSITIVE_RATE * (~member).sum())
    threshold = np.sort(scores[~member])[::-1][allowed]
    return float((scores[member] > threshold).mean())


def _positive(workshop: Workshop) -> Control:
    """The same attack on a network that knows four people by heart."""
    scene = workshop.scene
    few = evenly(scene.members, OVERFITTED_PEOPLE)
    law = RawLaw(scene.classes)
    network = _network(workshop, "overfitted", law, few, augment=False)
    groups = [
        _answered_by(network, [scene.simulate(law, people, answered=False)])
        for people in (few, workshop.audited)
    ]
    scores = -_all_losses(groups, 1.0)["mean"]
    value = auc(scores, np.arange(len(scores)) < len(few))
    return Control(f"a network that was trained on {len(few)} people", value, low=CONTROL_AUC)


def _network(
    workshop: Workshop, name: str, law: Law, people: Sequence[PreparedCase], augment: bool = True
) -> nn.Module:
    """A segmentation network of the attacker, trained as the server's was."""
    scene = workshop.scene
    steps = max(1, workshop.effort.steps // SHADOW_PART)
    if isinstance(law, EncodedLaw):
        size = attack_batch_size(scene.manifest.tile_shape)
        tiles = [fitted(case, scene.manifest.tile_shape) for case in people]
        return workshop.fitted(
            name,
            lambda: EncodedSegmenter(
                layout_of(scene, "image"), layout_of(scene, "mask"), scene.classes
            ),
            FreshEncodings(tiles, law, steps * size, scene.seed, augment),
            lambda network, batch: soft_target_loss(network(batch["proxy"]), batch["target"]),
            steps,
            size,
        )
    kinds = len(scene.manifest.tile_shape), len(scene.manifest.channels), scene.classes

    def loss(network: nn.Module, batch: Batch) -> Tensor:
        target = batch.get("shown_target", batch["target"])
        if "reference_labels" in batch:
            a = scene.coefficient
            target = a * target + (1 - a) * batch["reference_labels"]
        return soft_target_loss(network(batch["proxy"]), target)

    return workshop.trained(
        name, lambda: Segmenter(*kinds), law, loss, steps, cases=people, augment=augment
    )


def _observed(
    workshop: Workshop, law: Law, people: Sequence[PreparedCase]
) -> list[list[Observation]]:
    """Proxies that the attacker makes of each candidate, answered by the server: by draw."""
    scene = workshop.scene
    if scene.encodes:
        return [decoded(scene, scene.simulate(law, people, answered=True))]
    draws = PROXIES_PER_CANDIDATE if scene.varies else 1
    return [
        replace(scene, seed=scene.seed + draw).simulate(law, people, answered=True)
        for draw in range(draws)
    ]


def _answered_by(network: nn.Module, groups: list[list[Observation]]) -> list[list[Observation]]:
    return [
        [replace(one, answer=_softmax(run(network, one.proxy))) for one in group]
        for group in groups
    ]


def _loss_map(
    one: Observation, coefficient: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Cross-entropy of one answer, voxel by voxel, and where the candidate has a structure."""
    classes = len(one.answer)
    labels = one.labels if one.shown_labels is None else one.shown_labels
    target = one_hot(labels, classes)
    if one.reference_labels is not None:
        reference = one_hot(one.reference_labels, classes)
        target = coefficient * target + (1 - coefficient) * reference
    log = np.log(np.maximum(one.answer, SMALLEST_PROBABILITY))
    return np.asarray(-(target * log).sum(axis=0), dtype=np.float64), labels > 0


def _in_structures(losses: NDArray[np.float64], structure: NDArray[np.bool_]) -> float:
    return float(losses[structure].mean()) if structure.any() else float(losses.mean())


STATISTICS: dict[str, Callable[[NDArray[np.float64], NDArray[np.bool_]], float]] = {
    "mean": lambda losses, _: float(losses.mean()),
    "mean in structures": _in_structures,
    "worst hundredth": lambda losses, _: float(np.percentile(losses, 99)),
}


def _softmax(logits: Float32Array) -> Float32Array:
    return np.asarray(torch.from_numpy(logits).softmax(dim=0))


def _bootstrap_auc(
    scores: NDArray[np.float64], member: NDArray[np.bool_], people: Sequence[str], seed: int
) -> Interval:
    """AUC with an interval that draws whole patients anew, members and others apart."""
    rng = np.random.default_rng(seed)
    names = np.array(people)
    groups = [
        [
            np.flatnonzero((names == name) & (member == side))
            for name in np.unique(names[member == side])
        ]
        for side in (True, False)
    ]
    values = []
    for _ in range(RESAMPLES):
        drawn = np.concatenate(
            [group[i] for group in groups for i in rng.integers(len(group), size=len(group))]
        )
        values.append(auc(scores[drawn], member[drawn]))
    low, high = np.percentile(values, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    patients = sum(len(group) for group in groups)
    return Interval(auc(scores, member), float(low), float(high), patients, len(people))
