"""Plots of docs/results.md: margins to plain, and Dice kept over what is learned."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evidence.goals import LARGEST_LOSS
from evidence.places import Result
from veilseg.audit.findings import CHANNELS
from veilseg.bench.evidence.cells import REPEATED
from veilseg.bench.evidence.comparisons import SCHEMES
from veilseg.bench.evidence.data import ALL, Data

# Okabe–Ito, each with a marker of its own: told apart without colours as well.
LOOKS = dict(
    zip(
        SCHEMES,
        (
            *(("#000000", "s"), ("#0072B2", "o"), ("#009E73", "D")),
            *(("#D55E00", "^"), ("#CC79A7", "v"), ("#E69F00", "P")),
        ),
        strict=True,
    )
)
GREY = "#555555"
PANEL_INCHES = (2.9, 2.6)


def margins(figure: Figure, results: Sequence[Result]) -> bool:
    """Forest plot: every scheme − plain on every data set, with intervals over patients."""
    found = results[0]["comparisons"]
    sets = [data for data in reversed(ALL) if found.get(data.name, {}).get("margins")]
    if not sets:
        return False
    axes = figure.subplots()
    figure.set_size_inches(7.2, 1.4 + 0.9 * len(sets))
    shown = [scheme for scheme in SCHEMES if any(scheme in found[d.name]["margins"] for d in sets)]
    for height, data in enumerate(sets):
        for number, scheme in enumerate(shown):
            margin = found[data.name]["margins"].get(scheme)
            if margin is not None:
                colour, marker = LOOKS[scheme]
                level = height + 0.7 * (0.5 - (number + 0.5) / len(shown))
                if None not in margin["interval"]:
                    axes.plot(margin["interval"], [level, level], color=colour, linewidth=1.5)
                axes.plot(margin["value"], level, marker, color=colour, markersize=5)
    axes.axvline(0, color=GREY, linewidth=1)
    axes.axvline(-LARGEST_LOSS, color=GREY, linewidth=1, linestyle="--")
    axes.set_yticks(range(len(sets)), [data.title for data in sets])
    axes.set_ylim(-0.6, len(sets) - 0.4)
    axes.grid(alpha=0.3, axis="x")
    axes.set_xlabel("Dice − plain's (95 % over patients); dashed: what may be lost")
    figure.legend(handles=_handles(shown), loc="outside upper center", ncols=5, frameon=False)
    return True


def frontier(figure: Figure, results: Sequence[Result]) -> bool:
    """Where comparators are measured: one row per data set, one panel per channel."""
    return _frontier(figure, results[0], REPEATED)


def frontier_others(figure: Figure, results: Sequence[Result]) -> bool:
    """The other data sets, alike."""
    return _frontier(figure, results[0], [data for data in ALL if data not in REPEATED])


def _frontier(figure: Figure, result: Result, of: Sequence[Data]) -> bool:
    found = {data: result["comparisons"].get(data.name) for data in of}
    sets = {data: entry for data, entry in found.items() if entry is not None}
    if not sets:
        return False
    width, height = PANEL_INCHES
    figure.set_size_inches(width * len(CHANNELS), height * len(sets) + 0.8)
    panels = figure.subplots(len(sets), len(CHANNELS), squeeze=False, sharex=True, sharey="row")
    for axes, (data, entry) in zip(panels, sets.items(), strict=True):
        for panel, channel in zip(axes, CHANNELS, strict=True):
            _panel(panel, entry, channel)
        axes[0].set_ylabel(f"{data.title}\nDice kept", fontsize="small")
    for panel, channel in zip(panels[0], CHANNELS, strict=True):
        panel.set_title(channel, fontsize="medium")
    for panel in panels[-1]:
        panel.set_xlabel("share of what there is to learn", fontsize="small")
    shown = [one for one in SCHEMES if any(one in entry["accuracy"] for entry in sets.values())]
    figure.legend(handles=_handles(shown), loc="outside upper center", ncols=6, frameon=False)
    return True


def _panel(panel: Axes, entry: Result, channel: str) -> None:
    for scheme, accuracy in entry["accuracy"].items():
        best, kept = entry["leakage"][scheme][channel], accuracy["dice"]
        if best is None or kept["value"] is None:
            continue  # no attack ran with its controls: that is no point on the left
        colour, marker = LOOKS[scheme]
        nothing = best["nothing_known"]
        place = best["share"], kept["value"]
        if None not in best["interval"] and nothing < 1:
            ends = [min(1.0, max(0.0, (end - nothing) / (1 - nothing))) for end in best["interval"]]
            panel.plot(ends, [place[1]] * 2, color=colour, linewidth=1, alpha=0.6)
        if None not in kept["interval"]:
            panel.plot([place[0]] * 2, kept["interval"], color=colour, linewidth=1, alpha=0.6)
        panel.plot(*place, marker, color=colour, markersize=6)
    panel.set_xlim(-0.05, 1.05)
    panel.grid(alpha=0.3)


def _handles(schemes: Sequence[str]) -> list[Line2D]:
    looks = {scheme: LOOKS[scheme] for scheme in schemes}
    return [
        Line2D([], [], color=colour, marker=marker, linestyle="none", label=scheme)
        for scheme, (colour, marker) in looks.items()
    ]
