"""From an audit's document to what a server learns on each channel, strongest attack first."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from veilseg.audit.findings import CHANNELS
from veilseg.audit.verdict import nothing_known, share_learned, strongest

Document = Mapping[str, Any]

# What a table or a plot says of an attack; the rest is in the audit's own document.
KEPT: Final = (
    *("attack", "title", "setting", "occurs", "person", "status", "metric", "direction"),
    *("value", "interval", "n", "n_patients", "baseline", "positive_control", "null_control"),
    *("controls_passed", "threat"),
)


def leakage(audit: Document) -> dict[str, Any]:
    """By channel: every attack, and the strongest of what a site does by default or if asked to,
    and by default where no site sides with the server.

    None of a channel where no attack ran with its controls: that is no safety.
    """
    return {channel: _of(audit["channels"][channel]) for channel in CHANNELS}


def _of(findings: Sequence[Document]) -> dict[str, Any]:
    return {
        "by_default": _told(strongest(findings)),
        "alone": _told(strongest(findings, alone=True)),
        "if_asked": _told(strongest(findings, "if asked for")),
        "attacks": [{name: one[name] for name in KEPT} for one in findings],
    }


def _told(best: Document | None) -> dict[str, Any] | None:
    if best is None:
        return None
    share = share_learned(best)
    return {
        **{name: best[name] for name in ("attack", "title", "setting", "metric", "value")},
        "interval": best["interval"],
        "nothing_known": round(nothing_known(best), 4),
        "share": None if share is None else round(share, 4),
        "n_patients": best["n_patients"],
        "colluding_site": bool(best["threat"]["colluding_site"]),
    }
