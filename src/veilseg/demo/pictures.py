"""Pictures of the demo, drawn with matplotlib."""

import base64
import io
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from veilseg.demo.run import DemoResult

# Okabe–Ito: told apart by people who do not see red and green. Background is clear.
TISSUE_COLOURS = ("#00000000", "#E69F00", "#56B4E9", "#D55E00", "#009E73")
PANEL_INCHES = 3.0
DPI = 110

mpl.use("Agg")


def overview(result: DemoResult) -> str:
    """The four pictures that tell the story, as a PNG in base64."""
    private = result.private
    patient = result.plain.outgoing.proxy.array[0]
    classes = len(private.bundle.manifest.labels)
    # The answer is a mixture of maps, so colours mix as the maps do.
    colours = np.array([to_rgb(colour) for colour in TISSUE_COLOURS[1:classes]])
    answered = np.tensordot(private.answer.array[1:], colours, axes=(0, 0))
    return _row(
        [
            ("Patient image\n(stays at the site)", _slice(patient), None),
            ("What the server sees\n(the mixture)", _slice(private.outgoing.proxy.array[0]), None),
            ("What it answers\n(both masks, mixed)", _slice(answered), None),
            ("Recovered at the site\n(the segmentation)", _slice(patient), private.recovered),
        ],
        classes,
    )


def comparison(result: DemoResult) -> str:
    """Plain result, private result and what the server reads off its answer, as base64 PNG."""
    private = result.private
    patient = _slice(result.plain.outgoing.proxy.array[0])
    classes = len(private.bundle.manifest.labels)
    return _row(
        [
            ("Plain: raw image sent", patient, result.plain.recovered),
            ("Private: mixture sent", patient, private.recovered),
            ("What the server reads\noff its own answer", patient, result.separated),
        ],
        classes,
    )


def _row(panels: list[tuple[str, NDArray[Any], NDArray[np.uint8] | None]], classes: int) -> str:
    size = (PANEL_INCHES * len(panels), PANEL_INCHES * 1.5)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    axes = figure.subplots(1, len(panels))
    colours = ListedColormap(TISSUE_COLOURS[:classes])
    for axis, (title, image, labels) in zip(axes, panels, strict=True):
        # Axes go right and up; a third one, of colours, stays last.
        upright = np.clip(image.swapaxes(0, 1), 0, 1)
        axis.imshow(upright, origin="lower", cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        if labels is not None:
            axis.imshow(
                _slice(labels).T,
                origin="lower",
                cmap=colours,
                vmin=-0.5,
                vmax=classes - 0.5,
                alpha=0.6,
                interpolation="nearest",
            )
        axis.set_title(title, fontsize=11)
        axis.set_axis_off()
    stream = io.BytesIO()
    figure.savefig(stream, format="png", bbox_inches="tight", pad_inches=0.08)
    return base64.b64encode(stream.getvalue()).decode("ascii")


def _slice(array: NDArray[Any]) -> NDArray[Any]:
    """The axial slice in the middle, where nuclei and ventricles are."""
    return array[:, :, array.shape[2] // 2]
