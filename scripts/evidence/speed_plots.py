"""Plots of docs/performance.md."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from evidence.places import Result
from evidence.speed import PHASES

# Okabe–Ito: told apart by people who do not see red and green.
COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"),
    *("#56B4E9", "#F0E442", "#999999", "#555555"),
)
GREY = "#555555"


def servers(figure: Figure, results: Sequence[Result]) -> bool:
    """Throughput and p95 over clients, a line for each server."""
    found = results[0]
    there = [entry for entry in found["servers"] if entry["status"] == "run"]
    if not there:
        return False
    figure.set_size_inches(9, 4)
    flow, late = figure.subplots(1, 2)
    for entry, colour in zip(there, COLOURS, strict=False):
        clients = [int(count) for count, one in entry["clients"].items() if one["n"]]
        each = [entry["clients"][str(count)] for count in clients]
        label = f"{entry['server']} ×{entry['replicas']}"
        for axes, key in ((flow, "throughput"), (late, "p95_ms")):
            axes.plot(clients, [one[key] for one in each], "o-", color=colour, label=label)
    flow.axhline(found["bare"]["throughput"], color=GREY, linestyle="--", label="bare loop")
    flow.set_ylim(bottom=0)
    flow.set_ylabel("tiles per second")
    late.set_ylabel("p95 of the latency, ms")
    late.set_yscale("log")
    for axes in (flow, late):
        axes.set_xlabel("clients")
        axes.grid(alpha=0.3)
    flow.legend(frameon=False)
    return True


def site_time(figure: Figure, results: Sequence[Result]) -> bool:
    """A bar for each bundle, a piece for each phase."""
    bundles = results[0]["bundles"]
    axes = figure.subplots()
    left = [0.0] * len(bundles)
    for phase, colour in zip(PHASES, COLOURS, strict=True):
        widths = [entry["milliseconds"][phase] for entry in bundles.values()]
        axes.barh(range(len(bundles)), widths, left=left, color=colour, label=phase)
        left = [before + width for before, width in zip(left, widths, strict=True)]
    axes.set_yticks(range(len(bundles)), list(bundles))
    axes.set_xlabel("milliseconds of one image, median")
    axes.legend(frameon=False, ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return True


def plan(figure: Figure, results: Sequence[Result]) -> bool:
    """p95 of a scan over replicas, behind one front and behind as many as needed."""
    points = [point for point in results[0]["points"] if point["status"] == "simulated"]
    one = [point for point in points if point["fronts"] == 1]
    # Of each number of replicas the point with the most fronts, which come last.
    enough = {point["replicas"]: point for point in points}
    axes = figure.subplots()
    for label, line, colour in (
        ("as many fronts as needed", list(enough.values()), COLOURS[0]),
        ("one front", one, COLOURS[1]),
    ):
        counts = [point["replicas"] for point in line]
        late = [point["scan_p95_s"] for point in line]
        axes.plot(counts, late, "o-", color=colour, label=label)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("replicas")
    axes.set_ylabel("p95 of a scan, seconds")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return bool(points)
