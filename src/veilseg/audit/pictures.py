"""Pictures of an audit: what was hidden, what was sent, and what was found."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from veilseg.audit.attacks.alike_tokens import masks_of_groups
from veilseg.audit.attacks.encoded_masks import network_on_answers
from veilseg.audit.attacks.inversion import inverter
from veilseg.audit.attacks.layout import drawn
from veilseg.audit.attacks.mask_recovery import recovered_masks
from veilseg.audit.attacks.separation import LINEAR, PROXY, attackers_of
from veilseg.audit.encodings import own_tiles
from veilseg.audit.fitting import run
from veilseg.audit.reading_off import Labels, read_off, strongest
from veilseg.audit.scene import Observation
from veilseg.audit.workshop import Workshop, mean_image
from veilseg.schemes.encoding.sequence import Layout

PANEL_INCHES = 2.2
PROXY_PANEL = 1
DPI = 110
PEOPLE = 3
FRONTIER_INCHES = (9.0, 7.0)
# Of a name, as shares of the axes.
NAME_WIDTH, NAME_HEIGHT = 0.14, 0.06
LEARNED = {"image": "SSIM", "mask": "Dice", "identity": "rank-1", "membership": "AUC"}

mpl.use("Agg")


def rows(workshop: Workshop, ran: Mapping[str, str | None]) -> str:
    """One row per person, as a PNG in base64: patient, proxy, reconstruction, error, masks.

    Parameters
    ----------
    workshop : Workshop
    ran : mapping
        Attacks that ran, and which of its attackers was the strongest where one has several. Of an
        attack that did not run, what needs no training is drawn.
    """
    scene = workshop.scene
    seen = workshop.observed()[:PEOPLE]
    groups: list[Labels] = []
    if scene.encodes:
        groups = masks_of_groups(workshop, seen)
        masks = _decoded(workshop, seen) if "A16e" in ran else groups
        seen, images = _of_encodings(workshop, "A10" in ran)
    else:
        untrained = LINEAR if scene.hides else PROXY
        images = attackers_of(workshop)[ran.get("A5") or untrained](seen)
        masks = [read_off(one.answer, scene.coefficient) for one in seen]
        if name := ran.get("A16"):
            masks = recovered_masks(workshop, scene.coefficient, seen)[name]
    drawn_rows = [
        _panels(*of_one, scene.classes) for of_one in zip(seen, images, masks, strict=True)
    ]
    for row, one, mask in zip(drawn_rows, seen, groups, strict=False):
        row[PROXY_PANEL] = ("encoding: first component", *row[PROXY_PANEL][1:])
        row.append(("tokens that are alike", _slice(mask, _busiest(one.labels)), row[-1][2]))
    columns = len(drawn_rows[0])
    figure = Figure(
        figsize=(columns * PANEL_INCHES, len(seen) * PANEL_INCHES * 1.15),
        dpi=DPI,
        layout="constrained",
    )
    axes = figure.subplots(len(seen), columns, squeeze=False)
    for number, (line, row) in enumerate(zip(axes, drawn_rows, strict=True)):
        for axis, (title, picture, scale) in zip(line, row, strict=True):
            axis.imshow(picture.swapaxes(0, 1), origin="lower", interpolation="nearest", **scale)
            axis.set_axis_off()
            if number == 0:
                axis.set_title(title, fontsize=10)
    return _encoded(figure)


def _of_encodings(
    workshop: Workshop, by_network: bool
) -> tuple[list[Observation], list[NDArray[np.float32]]]:
    """Encodings as their first component, on the grid; and what known pairs invert them to."""
    scene, seen = workshop.scene, workshop.observed()[:PEOPLE]
    layout = Layout.from_json(scene.manifest.settings["image_levels"])
    mean = mean_image(scene.auxiliary, scene.manifest.tile_shape)
    shown = [first for first, _ in drawn(seen, layout, mean)]
    images = shown
    if by_network:
        network = inverter(workshop)
        images = [network.inverted(one.proxy) for one in seen]
    return [replace(one, proxy=first) for one, first in zip(seen, shown, strict=True)], images


def _decoded(workshop: Workshop, seen: Sequence[Observation]) -> list[Labels]:
    """Masks by what known answers teach."""
    scene = workshop.scene
    pairs = scene.simulate(scene.law(), own_tiles(scene), answered=True)
    network = network_on_answers(workshop, pairs)
    return [strongest(run(network, one.answer)) for one in seen]


def frontier_plot(points: Sequence[Mapping[str, Any]]) -> str:
    """Dice kept over what is learned, one panel per channel, as a PNG in base64."""
    figure = Figure(figsize=FRONTIER_INCHES, dpi=DPI, layout="constrained")
    draw_frontier(figure, points)
    return _encoded(figure)


def draw_frontier(figure: Figure, points: Sequence[Mapping[str, Any]]) -> None:
    """Dice kept over what is learned, one panel per channel."""
    axes = figure.subplots(2, 2, sharey=True).ravel()
    mixtures = [point for point in points if point["what"] == "mixture"]
    for axis, (channel, metric) in zip(axes, LEARNED.items(), strict=True):
        axis.set_xlabel(f"{channel}: {metric} of the attacker")
        axis.grid(alpha=0.3)
        if any(point[channel] is None for point in points):
            axis.set_title("not known", fontsize=9)
            continue
        for count in sorted({point["references"] for point in mixtures}):
            line = [point for point in mixtures if point["references"] == count]
            places = [point[channel] for point in line], [point["dice"] for point in line]
            name = "1 reference" if count == 1 else f"{count} references"
            axis.plot(*places, marker="o", markersize=4, label=name)
        for point in points:
            _spread(axis, point, channel)
        ends = [point for point in points if point["what"] != "mixture"]
        for point in ends:
            axis.plot(point[channel], point["dice"], "ks")
        single = sorted(
            (point for point in mixtures if point["references"] == 1),
            key=lambda point: float(point["coefficient"]),
        )
        named: list[tuple[float, float]] = []
        for point in (*ends, *single):
            place = float(point[channel]), float(point["dice"])
            # Where points lie close, the first name is enough: a rises along each line.
            if all(_apart(axis, place, other) for other in named):
                what = point["what"]
                name = f"a = {point['coefficient']:g}" if what == "mixture" else what
                _named(axis, name, place)
                named.append(place)
    for axis in axes[::2]:
        axis.set_ylabel("Dice that the site gets")
    drawn = [axis for axis in axes if axis.lines]
    if drawn:
        drawn[0].legend(fontsize=8)


def _spread(axis: Axes, point: Mapping[str, Any], channel: str) -> None:
    """Intervals as thin lines, behind everything."""
    x, y, lines = point[channel], point["dice"], point["intervals"]
    for name, across in (("dice", False), (channel, True)):
        low, high = lines.get(name, (None, None))
        if low is not None:
            places = ([low, high], [y, y]) if across else ([x, x], [low, high])
            axis.plot(*places, color="0.8", linewidth=0.8, zorder=0)


def _apart(axis: Axes, one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether two names do not lie over each other."""
    sides = zip(one, other, (axis.get_xlim(), axis.get_ylim()), strict=True)
    across, up = (abs(a - b) / (high - low) for a, b, (low, high) in sides)
    return across > NAME_WIDTH or up > NAME_HEIGHT


def _named(axis: Axes, name: str, place: tuple[float, float]) -> None:
    # Names of what lies at the right end would be cut there, and lines come from below.
    low, high = axis.get_xlim()
    right = place[0] > (low + high) / 2
    offset, side = ((-6, 6), "right") if right else ((6, -10), "left")
    axis.annotate(name, place, fontsize=8, textcoords="offset points", xytext=offset, ha=side)


def _encoded(figure: Figure) -> str:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", pad_inches=0.08)
    return base64.b64encode(stream.getvalue()).decode("ascii")


def _panels(
    one: Observation, image: NDArray[np.float32], mask: NDArray[Any], classes: int
) -> list[tuple[str, NDArray[Any], dict[str, Any]]]:
    grey = {"cmap": "gray", "vmin": 0, "vmax": 1}
    wrong = {"cmap": "magma", "vmin": 0, "vmax": 0.5}
    labels = {"cmap": "viridis", "vmin": 0, "vmax": max(1, classes - 1)}
    error = np.abs(image - one.image).mean(axis=0)
    # The slice that shows most of the labels.
    level = _busiest(one.labels)
    return [
        ("patient", _slice(_shown(one.image), level), grey),
        ("proxy", _slice(_shown(one.proxy), level), grey),
        ("reconstruction", _slice(_shown(image), level), grey),
        ("its error", _slice(error, level), wrong),
        ("patient's mask", _slice(one.labels, level), labels),
        ("recovered mask", _slice(mask, level), labels),
    ]


def _shown(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Grey of several channels: their mean."""
    return np.asarray(image.mean(axis=0), dtype=np.float32)


def _busiest(labels: NDArray[np.uint8]) -> int:
    if labels.ndim == 2:
        return 0
    return int((labels > 0).sum(axis=(0, 1)).argmax())


def _slice(array: NDArray[Any], level: int) -> NDArray[Any]:
    return array if array.ndim == 2 else array[:, :, level]
