"""What findings mean, in sentences. No verdict is better than the strongest attack that ran."""

from collections.abc import Mapping, Sequence
from typing import Any

from veilseg.audit.findings import RUN, Channel, Occurs

Document = Mapping[str, Any]

# What share of the way from knowing nothing to having everything an attacker went.
LEAKS, LEAKS_IN_PART = 0.5, 0.1

MEASURES = ("SSIM", "Dice", "rank-1", "AUC")
WHAT: dict[Channel, str] = {
    "image": "what the patient looks like",
    "mask": "the segmentation",
    "identity": "who it is",
    "membership": "whether somebody was trained on",
}

EVERYTHING: dict[Channel, str] = {
    "image": "the image itself",
    "mask": "the mask itself",
    "identity": "everybody recognised",
    "membership": "certainty",
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


def strongest(findings: Sequence[Document], occurs: Occurs = "by default") -> Document | None:
    """The finding of a channel by which most is learned, of what a site does then."""
    scored = [
        (share, one)
        for one in findings
        if one["occurs"] == occurs and (share := share_learned(one)) is not None
    ]
    return max(scored, key=lambda pair: pair[0])[1] if scored else None


def sentence(channel: Channel, findings: Sequence[Document]) -> str:
    """One sentence for a channel, and another where a site can be told to do worse."""
    best, worse = strongest(findings), strongest(findings, "if asked for")
    failed = sum(one["status"] != RUN for one in findings)
    untold = f" {failed} of {len(findings)} attacks did not run: see the table." if failed else ""
    if best is None:
        return f"Nothing can be said of {WHAT[channel]}: no attack ran with its controls.{untold}"
    share, nothing = share_learned(best) or 0.0, nothing_known(best)
    low = best["interval"][0]
    if low is not None and low <= nothing:
        begin = f"These attacks did not surely learn {WHAT[channel]}"
    elif share >= LEAKS:
        begin = f"The server learns {WHAT[channel]}"
    elif share >= LEAKS_IN_PART:
        begin = f"The server learns {WHAT[channel]} in part"
    else:
        begin = f"The server hardly learned {WHAT[channel]} by these attacks"
    more = ""
    if worse is not None and (share_learned(worse) or 0.0) > share:
        more = f" With {worse['setting']}, {_reached(worse)}."
    return (
        f"{begin}: {_reached(best)}; knowing nothing gives {nothing:.2f}, and 1 is "
        f"{EVERYTHING[channel]}.{more}{untold}"
    )


def _reached(one: Document) -> str:
    name = f"{one['title'].lower()} ({one['attack']})"
    low, high = one["interval"]
    spread = "" if low is None else f" ({low:.2f} to {high:.2f})"
    return f"{name} reaches {one['metric']} {one['value']:.2f}{spread}"
