"""The audit's page for people; scripts read the JSON."""

import html
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from typing import Any

from veilseg.audit.attacks.layout import CORRELATION, EXPLAINED
from veilseg.audit.findings import CHANNELS, DOES_NOT_APPLY, RUN, Channel, Threat
from veilseg.audit.verdict import Document, sentence

COLUMNS = (
    *("attack", "setting", "when this happens", "metric", "value", "images, patients"),
    *("for comparison", "must succeed", "must fail"),
)
HEADS: dict[Channel, str] = {
    "image": "Image: what the patient looks like",
    "mask": "Mask: the segmentation",
    "identity": "Identity: whose proxy it is",
    "membership": "Membership: who was trained on",
}


# Where something is mixed in: what its words mean.
GLOSSARY = (
    "<dt>reference, a</dt><dd>The other image that is mixed in, and the patient's share in the "
    "mixture.</dd>\n"
)
# By scheme.
CHANGES = {
    "mixup": (
        "More than one proxy of a person: references average away. Send nobody twice.",
        "Whoever learns the reference has the patient. Keep the vault private.",
    ),
    "encoding": (
        "Whoever has a site's half attacks with its encoders. Give it to sites alone.",
        "One image whose encodings with and without the key are known gives the key away.",
    ),
    "noise": ("More than one proxy of a person: noise averages away. Send nobody twice.",),
}


def page(document: dict[str, Any], pictures: str, plot: str | None, steps: int) -> str:
    """One self-contained HTML page.

    Parameters
    ----------
    document : dict
        What the JSON file holds.
    pictures : str
        PNG in base64.
    plot : str or None
        Of the frontier, PNG in base64, where it was asked for.
    steps : int
        Of training, at the most.
    """
    channels: dict[Channel, list[Document]] = document["channels"]
    everything = [one for channel in CHANNELS for one in channels[channel]]
    mixes = _mixes(document)
    people = f"{document['n_audited']} images of {document['n_patients']} patients"
    return _template("page.html").format(
        bundle=html.escape(document["bundle"]),
        scheme=html.escape(document["scheme"]),
        setting=_setting(document),
        effort=html.escape(document["effort"]),
        people=people,
        sentences="".join(
            f"<li>{html.escape(sentence(channel, channels[channel]))}</li>" for channel in CHANNELS
        ),
        pictures=pictures,
        encodings=_encodings(everything),
        frontier="" if plot is None else _template("frontier.html").format(plot=plot),
        tables="\n".join(_table(HEADS[channel], channels[channel]) for channel in CHANNELS),
        threats="\n".join(_threats(_applying(everything), mixes)),
        glossary=GLOSSARY if mixes else "",
        changes="".join(f"<li>{one}</li>\n" for one in CHANGES.get(document["scheme"], ())),
        steps=f"{steps:,}",
    )


def shown(value: float) -> str:
    """Two digits behind the point; of what they would call nothing, the first one that counts."""
    return f"{value:.1g}" if 0 < abs(value) < 0.005 else f"{value:.2f}"


def _encodings(findings: Sequence[Document]) -> str:
    """How plainly encodings show the image, where there are any."""
    for one in findings:
        tied, explained = (one["details"].get(name) for name in (CORRELATION, EXPLAINED))
        if tied is not None and explained is not None:
            return (
                f"<p>On the grid of its finest tokens the image correlates with a token's value by "
                f"up to {shown(tied)}, and a linear probe of the tokens explains "
                f"{max(0, explained):.0%} of its variance. The first component of all tokens is "
                f"drawn as a picture above, without any known image; so are the groups of tokens "
                f"that are alike in the answers.</p>"
            )
    return ""


def _mixes(document: dict[str, Any]) -> bool:
    return bool(document["references"] != "none")


def _setting(document: dict[str, Any]) -> str:
    """What the figures hold for and for nothing else: coefficient and kind of reference."""
    if not _mixes(document):
        return ""
    return f" at a = {document['coefficient']:g} with {document['references']} references"


def _template(name: str) -> str:
    return resources.files("veilseg.audit").joinpath(name).read_text(encoding="utf-8")


def _table(head: str, findings: Sequence[Document]) -> str:
    if not findings:
        return f"<h3>{html.escape(head)}</h3><p class='failed'>No attack was asked for.</p>"
    heads = "".join(f"<th>{name}</th>" for name in COLUMNS)
    applying = _applying(findings)
    without = [one for one in findings if one not in applying]
    rows = "\n".join(map(_row, applying))
    table = f"<table><tr>{heads}</tr>\n{rows}</table>"
    return f"<h3>{html.escape(head)}</h3><div class='wide'>{table}</div>{_unapplied(without)}"


def _applying(findings: Sequence[Document]) -> list[Document]:
    return [one for one in findings if not one["status"].startswith(DOES_NOT_APPLY)]


def _unapplied(findings: Sequence[Document]) -> str:
    """Attacks on what this scheme does not do: named, but in no row."""
    if not findings:
        return ""
    names = "; ".join(
        f"{one['attack']} {one['title']}".strip() + one["status"].removeprefix(DOES_NOT_APPLY)
        for one in findings
    )
    return f"<p>Do not apply to this scheme: {html.escape(names)}.</p>"


def _row(one: Document) -> str:
    name = html.escape(f"{one['attack']} {one['title']}".strip())
    if one["status"] != RUN:
        reason = html.escape(one["status"])
        controls = _control(one["positive_control"]), _control(one["null_control"])
        return (
            f"<tr><td>{name}</td><td>{html.escape(one['setting'])}</td><td>{one['occurs']}</td>"
            f"<td class='failed' colspan='4'>{reason}</td>"
            f"<td>{controls[0]}</td><td>{controls[1]}</td></tr>"
        )
    low, high = one["interval"]
    spread = "" if low is None else f" ({shown(low)} to {shown(high)})"
    known = "; ".join(
        f"{what} {'–' if value is None else shown(value)}"
        for what, value in one["baseline"].items()
    )
    cells = [
        name,
        html.escape(one["setting"]),
        one["occurs"],
        html.escape(_by(one)),
        f"{shown(one['value'])}{spread}",
        f"{one['n']}, {one['n_patients']}",
        html.escape(known),
        _control(one["positive_control"]),
        _control(one["null_control"]),
    ]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _by(one: Document) -> str:
    """The metric, and which of several attackers reached it."""
    best = one["details"].get("strongest")
    return f"{one['metric']}, by {best}" if best else str(one["metric"])


def _control(control: dict[str, Any] | None) -> str:
    if control is None or control["value"] is None:
        return "–"
    low, high = control["low"], control["high"]
    if low is None:
        wanted = "anything" if high is None else f"at most {shown(high)}"
    else:
        wanted = f"at least {shown(low)}" if high is None else f"{shown(low)} to {shown(high)}"
    mark = "passed" if control["passed"] else "<b class='failed'>failed</b>"
    return f"{html.escape(control['what'])}: {shown(control['value'])} (wanted {wanted}), {mark}"


def _threats(findings: Sequence[Document], mixes: bool) -> list[str]:
    seen: dict[str, str] = {}
    for one in findings:
        name = f"{one['attack']} {one['title']}"
        threat = Threat(**one["threat"])
        words = replace(threat, knows_coefficient=mixes and threat.knows_coefficient).in_words()
        if words not in seen.get(name, ""):
            seen[name] = f"{seen.get(name, '')} {words}".strip()
    return [
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(words)}</td></tr>"
        for name, words in seen.items()
    ]
