"""A14: was this person among those whom the server's network was trained on? A14e: or a site's?"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu
from torch import nn

from veilseg.audit.chance import label_interval
from veilseg.audit.findings import Control, DoesNotApply, Finding, NotRun, Threat, rounded
from veilseg.audit.laws import Law, MixtureLaw, with_bases
from veilseg.audit.losses import STATISTICS, all_losses
from veilseg.audit.scene import Observation, evenly
from veilseg.audit.shadows import Halves, Shadows, shadows_of
from veilseg.audit.workshop import MOST_CONTROL_STEPS, Workshop
from veilseg.datasets.cases import PreparedCase
from veilseg.evaluation.bootstrap import LEVEL, Interval

FINDING = Finding("A14", "Membership", "membership", Threat(candidate_image=True), "AUC")
OF_HALF = Finding(
    *("A14e", "Membership, by a site's half", "membership"),
    *(Threat(colluding_site=True, candidate_image=True), "AUC"),
)
RESAMPLES = 2000
FALSE_POSITIVE_RATE = 0.01
# A network that has seen four people, over and over, without augmentation.
OVERFITTED_PEOPLE, CONTROL_AUC = 4, 0.9
LOSS, CALIBRATED = "loss", "loss, calibrated by shadow networks"
# Trained on, audited, and neither.
MEMBERS, OTHERS, UNSEEN = range(3)


def attack(workshop: Workshop) -> list[Finding]:
    """AUC by which the server's network tells its training patients from others.

    Of encodings it is membership in the fit of the mapping network: shadows are fitted to the same
    encoder's encodings, so that what the encoder itself remembers is not looked for
    (:func:`attack_by_half` does).
    """
    # The labels are encoded as a site does.
    threat = replace(FINDING.threat, colluding_site=workshop.scene.encodes)
    return [_told(workshop, shadows_of(workshop), replace(FINDING, threat=threat))]


def attack_by_half(workshop: Workshop) -> list[Finding]:
    """The same by what encoder and decoder of a site make of a candidate, beside the answer: they
    were trained on images, and every site has them.
    """
    if not workshop.scene.encodes:
        raise DoesNotApply("the networks of a site see no image")
    return [_told(workshop, Halves(workshop), OF_HALF)]


def _told(workshop: Workshop, kind: Shadows, finding: Finding) -> Finding:
    """By how well a network answers a candidate.

    The attacker holds a candidate's image and labels, makes proxies of it and looks at how well the
    network answers: compared with how well a network of its own does, fitted to other people, which
    says how hard the candidate is. Members and others may differ in more than that the network has
    seen them, by site or by age of the scanner: so the same scores must not tell the audited from
    others whom the network has not seen either.
    """
    scene, law = workshop.scene, workshop.scene.law()
    if not scene.members:
        raise NotRun("not the data the bundle was trained on: who was in is unknown")
    # Whose cases references are made of is nobody of the others: no shadow sees a candidate.
    mixed_in = isinstance(law, MixtureLaw) and law.template is None
    first, second, candidates, *rest = _parts(scene.members, 4 if mixed_in else 3)
    if not (first and second and candidates and all(rest)):
        few = "four" if mixed_in else "three"
        raise NotRun(f"fewer than {few} patients were trained on")
    trained_on = {case.patient for case in scene.members}
    unseen = [case for case in scene.auxiliary if case.patient not in trained_on]
    most = workshop.effort.audited
    groups_of = [evenly(candidates, most), workshop.audited, evenly(unseen, most)]
    people = [case.patient for group in groups_of for case in group]
    group = np.repeat([MEMBERS, OTHERS, UNSEEN], [len(cases) for cases in groups_of])
    asked = with_bases(law, rest[0] if rest else ())
    groups = [kind.drawn(cases, asked, answered=True) for cases in groups_of if cases]
    shadows = [
        kind.network(f"shadow-{number}", own, with_bases(law, own))
        for number, own in enumerate((first, second))
    ]
    statistic, rehearsed = _rehearsed(kind, asked, shadows, (first, second))

    all_of_server = all_losses(groups, kind.loss)
    all_of_shadow = [
        all_losses([_answered_by(kind, shadow, some) for some in groups], kind.loss)
        for shadow in shadows
    ]
    calibrated = {
        name: np.mean([losses[name] for losses in all_of_shadow], axis=0) - all_of_server[name]
        for name in STATISTICS
    }
    of_shadow = [losses[statistic] for losses in all_of_shadow]
    scores = {LOSS: -all_of_server[statistic], CALIBRATED: calibrated[statistic]}
    without = {LOSS: -of_shadow[0], CALIBRATED: of_shadow[1] - of_shadow[0]}
    nulls = {
        name: _null(values, without[name], group, people, scene.seed)
        for name, values in scores.items()
    }
    asked_about = group != UNSEEN
    member, own = (group == MEMBERS)[asked_about], np.array(people)[asked_about]
    scores = {name: values[asked_about] for name, values in scores.items()}
    found = {name: auc(values, member) for name, values in scores.items()}
    # What a loss tells where nobody was trained on, it tells of something else: it is not counted.
    counted = [name for name, null in nulls.items() if null.passed] or [CALIBRATED]
    best = max(counted, key=lambda name: found[name])
    overall = _bootstrap_auc(scores[best], member, own.tolist(), scene.seed)
    details = {
        "strongest": best,
        "statistic": statistic,
        "auc": {name: rounded(value) for name, value in found.items()},
        "null": {name: rounded(null.value) for name, null in nulls.items()},
        "auc_of_shadows": [rounded(auc(-losses[asked_about], member)) for losses in of_shadow],
        "auc_by_statistic": {
            name: rounded(auc(values[asked_about], member)) for name, values in calibrated.items()
        },
        "auc_in_rehearsal": {name: rounded(value) for name, value in rehearsed.items()},
        "tpr_at_1_percent_fpr": rounded(true_positive_rate(scores[best], member)),
        "non_members": len(groups_of[1]),
    }
    positive = _positive(workshop, kind, asked, shadows[0], candidates)
    return finding.measured(overall, {"chance": 0.5}, positive, nulls[best], details)


def _null(
    scores: NDArray[np.float64],
    without: NDArray[np.float64],
    group: NDArray[np.int_],
    people: Sequence[str],
    seed: int,
) -> Control:
    """The same scores of people whom the server's network has not seen either, against the audited.

    Where all of the attacker's people were trained on: what a network that saw neither says of
    members and others.
    """
    if UNSEEN in group:
        asked, what = group != MEMBERS, "people it was not trained on, by the same scores"
        values, inside = scores[asked], (group == UNSEEN)[asked]
    else:
        asked, what = group != UNSEEN, "a network that saw neither"
        values, inside = without[asked], (group == MEMBERS)[asked]
    owners = np.array(people)[asked].tolist()
    low, high = label_interval(values, inside, owners, auc, seed)
    return Control(what, auc(values, inside), low, high)


def _rehearsed(
    kind: Shadows,
    law: Law,
    shadows: Sequence[nn.Module],
    of_shadows: Sequence[Sequence[PreparedCase]],
) -> tuple[str, dict[str, float]]:
    """Which statistic of the loss map tells best whom a shadow was trained on, calibrated by the
    other: the attacker chooses by networks of its own, of which it knows who was in.
    """
    groups = [kind.drawn(people, law, answered=False)[:1] for people in of_shadows]
    in_first = np.arange(sum(map(len, of_shadows))) < len(of_shadows[0])
    first, second = (
        all_losses([_answered_by(kind, shadow, group) for group in groups], kind.loss)
        for shadow in shadows
    )
    told = {name: auc(second[name] - first[name], in_first) for name in STATISTICS}
    return max(told, key=lambda name: told[name]), told


def _parts(members: Sequence[PreparedCase], count: int) -> list[list[PreparedCase]]:
    """Whole patients, dealt out in turn: for one shadow, the other, as candidates, and the rest."""
    names = list(dict.fromkeys(case.patient for case in members))
    groups = [set(names[part::count]) for part in range(count)]
    return [[case for case in members if case.patient in group] for group in groups]


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


def _positive(
    workshop: Workshop,
    kind: Shadows,
    law: Law,
    shadow: nn.Module,
    candidates: Sequence[PreparedCase],
) -> Control:
    """The same attack on a network for such proxies that knows four people by heart."""
    few = evenly(candidates, OVERFITTED_PEOPLE)
    steps = min(MOST_CONTROL_STEPS, workshop.effort.shadow_steps)
    known = kind.network("overfitted", few, law, augment=False, steps=steps)
    drawn = [kind.drawn(people, law, answered=False) for people in (few, workshop.audited)]
    of_known, of_shadow = (
        all_losses([_answered_by(kind, network, some) for some in drawn], kind.loss)["mean"]
        for network in (known, shadow)
    )
    scores = of_shadow - of_known
    value = auc(scores, np.arange(len(scores)) < len(few))
    return Control(f"a network that was trained on {len(few)} people", value, low=CONTROL_AUC)


def _answered_by(
    kind: Shadows, network: nn.Module, groups: list[list[Observation]]
) -> list[list[Observation]]:
    return [[replace(one, answer=kind.answer(network, one)) for one in group] for group in groups]


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
