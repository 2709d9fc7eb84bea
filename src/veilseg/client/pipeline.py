"""THE main path: read → protect → tile → send → recover → write.

Everything here runs at the site. What processes is passed in as a :class:`TileProcessor`: a
remote server, or the server half run locally.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from veilseg.bundle import ClientManifest
from veilseg.client.processor import TileProcessor
from veilseg.errors import InvalidAnswer, InvalidImage
from veilseg.imaging.nifti import read_image
from veilseg.imaging.plausibility import warnings_for
from veilseg.imaging.preprocessing import Restoration, prepare, restore
from veilseg.imaging.tiling import sliding_window
from veilseg.imaging.volume import LabelMap
from veilseg.payload import Answer, Float32Array, Proxy, Receipt
from veilseg.scheme import ClientHalf

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Outgoing:
    """One image, protected: the proxy that may leave, and what must stay to recover."""

    proxy: Proxy
    receipt: Receipt
    restoration: Restoration
    warnings: list[str]
    seconds: float


@dataclass(frozen=True)
class Segmented:
    """A recovered segmentation on the image's own grid.

    Attributes
    ----------
    labels : LabelMap
    volumes_ml : dict
        Millilitres of each foreground class by name.
    warnings : list of str
    seconds : dict
        Wall-clock time of ``protect``, ``process`` and ``recover`` (reading included in the
        first, restoring in the last).
    """

    labels: LabelMap
    volumes_ml: dict[str, float]
    warnings: list[str]
    seconds: dict[str, float] = field(default_factory=dict)


def channel_files(image: Path, manifest: ClientManifest) -> tuple[Path, ...]:
    """The files of all channels of an image: one file, or nnU-Net's ``_0000``, ``_0001``, ….

    Raises
    ------
    InvalidImage
        If the bundle takes several channels and the name does not say which this one is.
    """
    count = len(manifest.channels)
    if count == 1:
        return (image,)
    stem, found, ending = image.name.partition("_0000.")
    if not found:
        raise InvalidImage(
            f"{image}: the bundle takes {count} channels ({', '.join(manifest.channels)}): "
            "name the first file CASE_0000 and the others CASE_0001, …"
        )
    return tuple(image.with_name(f"{stem}_{index:04d}.{ending}") for index in range(count))


def protect(
    files: Sequence[Path], subject: str, manifest: ClientManifest, half: ClientHalf
) -> Outgoing:
    """Read, bring to the bundle's grid and protect one image. Nothing is sent.

    Parameters
    ----------
    files : sequence of Path
        One per channel.
    subject : str
        Who it is; stays at the site.

    Raises
    ------
    InvalidInput
        If the image cannot be used.
    """
    started = time.perf_counter()
    volume = read_image(files)
    if volume.array.shape[0] != len(manifest.channels):
        raise InvalidImage(
            f"{files[0]}: has {volume.array.shape[0]} channels; the bundle takes "
            f"{len(manifest.channels)}"
        )
    prepared = prepare(volume, manifest.spacing_mm, manifest.intensity, manifest.tile_shape)
    warnings = warnings_for(volume, prepared.array, manifest.expectation)
    proxy, receipt = half.protect(prepared.array, subject)
    seconds = time.perf_counter() - started
    return Outgoing(proxy, receipt, prepared.restoration, warnings, seconds)


def process(
    proxy: Proxy, manifest: ClientManifest, processor: TileProcessor, progress: Progress | None
) -> Answer:
    """Have a proxy processed tile by tile and blend the answers.

    Raises
    ------
    ServerError
        Whatever the processor raises; InvalidAnswer if an answer has the wrong number of classes.
    """
    classes = len(manifest.labels)

    def checked(tile: Float32Array) -> Float32Array:
        answer = processor(tile)
        if answer.shape != (classes, *manifest.tile_shape) or not np.isfinite(answer).all():
            raise InvalidAnswer(
                f"answer of shape {answer.shape}; expected finite values of shape "
                f"{(classes, *manifest.tile_shape)}"
            )
        return answer

    return Answer(
        sliding_window(proxy.array, manifest.tile_shape, manifest.tile_overlap, checked, progress)
    )


def recover(answer: Answer, outgoing: Outgoing, half: ClientHalf) -> LabelMap:
    """Turn an answer into labels on the image's own grid."""
    probabilities = half.recover(answer, outgoing.receipt)
    return restore(probabilities, outgoing.restoration)


def segment(
    files: Sequence[Path],
    subject: str,
    manifest: ClientManifest,
    half: ClientHalf,
    processor: TileProcessor,
    before_sending: Callable[[Proxy], None] | None = None,
    progress: Progress | None = None,
) -> Segmented:
    """Segment one image from end to end.

    Parameters
    ----------
    before_sending : callable or None
        Sees the proxy before anything leaves: the ledger's veto.
    progress : callable or None
        Called with (tiles done, tiles in all).

    Raises
    ------
    InvalidInput, ServerError
        Nothing is written then.
    """
    outgoing = protect(files, subject, manifest, half)
    if before_sending is not None:
        before_sending(outgoing.proxy)
    started = time.perf_counter()
    answer = process(outgoing.proxy, manifest, processor, progress)
    answered = time.perf_counter()
    labels = recover(answer, outgoing, half)
    seconds = {
        "protect": outgoing.seconds,
        "process": answered - started,
        "recover": time.perf_counter() - answered,
    }
    return Segmented(labels, volumes_ml(labels, manifest), outgoing.warnings, seconds)


def volumes_ml(labels: LabelMap, manifest: ClientManifest) -> dict[str, float]:
    """Volume of each foreground class in millilitres."""
    counts = np.bincount(labels.array.ravel(), minlength=len(manifest.labels))
    voxel = labels.geometry.voxel_volume_ml
    return {
        label.name: float(counts[label.value]) * voxel for label in manifest.labels if label.value
    }
