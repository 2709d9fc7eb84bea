"""Pictures of the demo, drawn with matplotlib."""

import base64
import io
from itertools import chain
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from veilseg.demo.run import DemoResult
from veilseg.demo.tokens import components

# Okabe–Ito: told apart by people who do not see red and green. Background is clear.
TISSUE_COLOURS = ("#00000000", "#E69F00", "#56B4E9", "#D55E00", "#009E73")
PANEL_INCHES = 3.0
DPI = 110

# Title, picture, and labels over it.
Panel = tuple[str, NDArray[Any], NDArray[np.uint8] | None]

mpl.use("Agg")


def overview(result: DemoResult) -> str:
    """What is seen of a mixture and of an encoding, on the way and back, as a PNG in base64."""
    private, encoded = result.private, result.encoded
    patient = result.plain.outgoing.proxy.array[0]
    classes = len(private.bundle.manifest.labels)
    # The answer is a mixture of maps, so colours mix as the maps do.
    colours = np.array([to_rgb(colour) for colour in TISSUE_COLOURS[1:classes]])
    answered = np.tensordot(private.answer.array[1:], colours, axes=(0, 0))
    manifest = encoded.bundle.manifest
    (sent,) = components(
        encoded.outgoing.proxy.array, "image", manifest, encoded.recovered.shape, 1
    )
    returned = components(encoded.answer.array, "mask", manifest, encoded.recovered.shape, 3)
    image = _slice(patient)
    mixed: list[Panel] = [
        ("Patient image\n(stays at the site)", image, None),
        (
            "Mixup: what the server sees\n(the mixture)",
            _slice(private.outgoing.proxy.array[0]),
            None,
        ),
        ("What it answers\n(both masks, mixed)", _slice(answered), None),
        ("Recovered at the site\n(the segmentation)", image, private.recovered),
    ]
    in_tokens: list[Panel] = [
        ("Patient image\n(stays at the site)", image, None),
        ("Encoding: what the server sees\n(first component of its tokens)", _slice(sent), None),
        (
            "What it answers\n(three components, as colours)",
            _slice(np.moveaxis(returned, 0, -1)),
            None,
        ),
        ("Recovered at the site\n(the segmentation)", image, encoded.recovered),
    ]
    return _drawn([mixed, in_tokens], classes)


def comparison(result: DemoResult) -> str:
    """What a site gets, and what servers read off their answers, as a PNG in base64."""
    patient = _slice(result.plain.outgoing.proxy.array[0])
    classes = len(result.plain.bundle.manifest.labels)
    got: list[Panel] = [
        ("Plain: raw image sent", patient, result.plain.recovered),
        ("Mixture sent", patient, result.private.recovered),
        ("Encoding sent", patient, result.encoded.recovered),
    ]
    read: list[Panel] = [
        ("The patient image", patient, None),
        ("What the server reads off\nits answer to the mixture", patient, result.separated),
        ("Like tokens in its answer to the\nencoding, if told what each is", patient, result.alike),
    ]
    return _drawn([got, read], classes)


def _drawn(rows: list[list[Panel]], classes: int) -> str:
    across = len(rows[0])
    size = (PANEL_INCHES * across, PANEL_INCHES * 1.35 * len(rows))
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    axes = figure.subplots(len(rows), across)
    colours = ListedColormap(TISSUE_COLOURS[:classes])
    for axis, (title, image, labels) in zip(axes.flat, chain.from_iterable(rows), strict=True):
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
