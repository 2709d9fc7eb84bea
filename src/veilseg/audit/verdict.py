"""What findings mean, in sentences. No verdict is better than the strongest attack that ran."""

from collections.abc import Mapping, Sequence
from typing import Any

from veilseg.audit.findings import CONTROL_FAILED, DOES_NOT_APPLY, RUN, Channel, Occurs, Person

Document = Mapping[str, Any]

# What share of the way from knowing nothing to having everything an attacker went.
LEAKS, LEAKS_IN_PART = 0.5, 0.1
# From fewer people nothing is said of others.
LEAST_PATIENTS = 4

# Of all of them 1 is everything. Of others it is not: a reference named right is no image yet (A1),
# and gains over one proxy, shares of voxels (A4) and errors (A11) have scales of their own.
MEASURES = ("SSIM", "Dice", "rank-1", "AUC", "matched fraction")
# What an attacker would try first; without one of them that little was found says nothing.
DECISIVE: dict[Channel, tuple[str, ...]] = {
    "image": ("A5", "A10"),
    "mask": ("A16", "A16e"),
    "identity": ("A15", "A15e"),
    "membership": ("A14",),
}
# What the server can do; what it can do in part; what 1 would be.
WORDS: dict[Channel, tuple[str, str, str]] = {
    "image": (
        "can see what the patient looks like",
        "can partly see what the patient looks like",
        "the image itself",
    ),
    "mask": ("can draw the segmentation", "can partly draw the segmentation", "the mask itself"),
    "identity": (
        "can tell whose image it is",
        "can sometimes tell whose image it is",
        "everybody recognised",
    ),
    "membership": (
        "can tell whose images trained the model",
        "can partly tell whose images trained the model",
        "certainty",
    ),
}


def share_learned(finding: Document) -> float | None:
    """From 0, as good as knowing nothing, to 1, as good as the raw image; None if it was not run.

    Metrics are similarities, rates or areas under a curve: 1 is all there is to have, and the
    strongest baseline that needs no attack is nothing.
    """
    if finding["status"] != RUN or finding["value"] is None:
        return None
    if finding["metric"].partition(",")[0] not in MEASURES:
        return None  # it says how much more was learned, or of what else
    nothing = nothing_known(finding)
    if nothing >= 1:
        return 0.0
    return float(min(1.0, max(0.0, (finding["value"] - nothing) / (1 - nothing))))


def nothing_known(finding: Document) -> float:
    """The metric of somebody who has seen neither proxy nor answer."""
    known = ("mean image", "population-mean mask", "chance")
    baseline = finding["baseline"]
    return max(
        (float(baseline[name]) for name in known if baseline.get(name) is not None), default=0.0
    )


def strongest(
    findings: Sequence[Document],
    occurs: Occurs = "by default",
    person: Person = "patient",
    alone: bool = False,
) -> Document | None:
    """The finding of a channel by which most is surely learned of somebody, when a site does that.

    Sure is what lies above knowing nothing with its whole interval; where nothing is, the one that
    reaches most. ``alone``: of those by a server that no site colludes with.
    """
    scored = [
        (_sure(one), share, one)
        for one in findings
        if (one["occurs"], one["person"]) == (occurs, person)
        and one["n_patients"] >= LEAST_PATIENTS
        and not (alone and one["threat"]["colluding_site"])
        and (share := share_learned(one)) is not None
    ]
    return max(scored, key=lambda found: found[:2])[2] if scored else None


def strongest_attackers(channels: Mapping[str, Sequence[Document]]) -> dict[str, str | None]:
    """Of each attack that ran, the strongest of its attackers; its first finding is the default."""
    found: dict[str, str | None] = {}
    for one in (one for findings in channels.values() for one in findings):
        if one["value"] is not None:
            found.setdefault(one["attack"], one["details"].get("strongest"))
    return found


def sentence(channel: Channel, findings: Sequence[Document]) -> str:
    """What is to be said of a channel, where a site can be told to do worse as well."""
    able, partly, everything = WORDS[channel]
    unmeasured = f"Whether the server {able} was not measured"
    if not findings:
        return f"{unmeasured}: no attack on it was asked for."
    best, worse = strongest(findings), strongest(findings, "if asked for")
    other = strongest(findings, person="reference")
    apply = [one for one in findings if not one["status"].startswith(DOES_NOT_APPLY)]
    attacks = {one["attack"] for one in apply}
    failed = {one["attack"] for one in apply if one["status"] != RUN}
    untold = ""
    if failed:
        untold = f" {len(failed)} of {len(attacks)} attacks did not run in full: see the table."
    despite = "".join(
        f" Though its control failed, {_reached(one)}: at least that much leaks."
        for one in findings
        if one["status"] == CONTROL_FAILED and _leaks_all_the_same(one)
    )
    if best is None:
        return f"{unmeasured}: no attack ran with its controls.{despite}{untold}"
    nothing, share = nothing_known(best), share_learned(best) or 0.0
    little = not _sure(best) or share < LEAKS_IN_PART
    if little and not _has_decisive(channel, findings):
        names = " or ".join(DECISIVE[channel])
        begin = (
            f"{unmeasured}: no attack that could show it ({names}) ran with its controls. "
            "Of the others, the strongest"
        )
    elif not _sure(best):
        begin = f"It cannot be told from {best['n_patients']} people whether the server {able}"
    elif share >= LEAKS:
        begin = f"The server {able}"
    elif share >= LEAKS_IN_PART:
        begin = f"The server {partly}"
    else:
        begin = f"By these attacks the server {able.replace('can', 'can hardly', 1)}"
    more = ""
    if worse is not None and (share_learned(worse) or 0.0) > share:
        more = f" With {worse['setting']}, {_reached(worse)}."
    if best["threat"]["colluding_site"]:
        by_itself = strongest(findings, alone=True)
        if by_itself is not None:
            more = f" Without a colluding site, {_reached(by_itself)}.{more}"
    if other is not None:
        more += (
            f" Of the person whose case is the reference, {_reached(other)}; knowing nothing gives "
            f"{nothing_known(other):.2f}."
        )
    return (
        f"{begin}: {_reached(best)}; knowing nothing gives {nothing:.2f}, and 1 would be "
        f"{everything}.{more}{despite}{untold}"
    )


def _has_decisive(channel: Channel, findings: Sequence[Document]) -> bool:
    return any(
        one["attack"] in DECISIVE[channel]
        and (one["occurs"], one["person"]) == ("by default", "patient")
        and one["n_patients"] >= LEAST_PATIENTS
        and share_learned(one) is not None
        for one in findings
    )


def _sure(one: Document) -> bool:
    """Whether the whole interval lies above knowing nothing."""
    low = one["interval"][0]
    return low is not None and low > nothing_known(one)


def _leaks_all_the_same(one: Document) -> bool:
    """A weak attack that finds something has found it, if it finds nothing where nothing is."""
    null = one["null_control"]
    measure = one["metric"].partition(",")[0] in MEASURES and one["occurs"] == "by default"
    return measure and null is not None and null["passed"] and _sure(one)


def _reached(one: Document) -> str:
    helped = ", with a colluding site" if one["threat"]["colluding_site"] else ""
    name = f"{one['title'].lower()} ({one['attack']}{helped})"
    low, high = one["interval"]
    spread = "" if low is None else f" ({low:.2f} to {high:.2f})"
    return f"{name} reaches {one['metric']} {one['value']:.2f}{spread}"
