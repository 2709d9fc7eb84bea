"""THE main path: read → protect → tile → send → recover → write.

Everything here runs at the site. What processes is passed in as a :class:`TileProcessor`: a
remote server, or the server half run locally.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from veilseg.bundle import ClientManifest
from veilseg.client.processor import TileProcessor, answers_of, traffic_of
from veilseg.client.sizes import volumes_ml
from veilseg.client.uncertainty import predictive_entropy
from veilseg.client.watching import UNWATCHED, Watcher
from veilseg.errors import InvalidAnswer, InvalidImage
from veilseg.imaging.formats import channel, read_header, read_image
from veilseg.imaging.plausibility import spacing_for, warnings_for
from veilseg.imaging.preprocessing import Restoration, prepare, restore, restore_map
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
class Recovered:
    """What came back of one image, on the bundle's grid.

    Attributes
    ----------
    probabilities : tuple of ndarray, shape (K, X, Y, Z), float32
        Class probabilities of the patient by each client half, averaged over the proxies.
    seconds : dict
        Wall-clock time of ``process`` and ``recover``.
    """

    probabilities: tuple[Float32Array, ...]
    seconds: dict[str, float]


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
    uncertainty : ndarray, shape as the labels, float32, or None
        Predictive entropy in [0, 1]; 0 where the preprocessing saw nothing.
    bytes_sent, bytes_received : int
        Of all bodies; 0 where nothing leaves.
    """

    labels: LabelMap
    volumes_ml: dict[str, float]
    warnings: list[str]
    seconds: dict[str, float] = field(default_factory=dict)
    uncertainty: Float32Array | None = None
    bytes_sent: int = 0
    bytes_received: int = 0


def channel_files(image: Path, manifest: ClientManifest) -> tuple[Path, ...]:
    """The files of all channels of an image: one file, or nnU-Net's ``_0000``, ``_0001``, ….

    A DICOM series holds one channel; for several, folders, zips or files are named alike.

    The first file is looked at: an RGB image holds its three channels itself.

    Raises
    ------
    InvalidImage
        If the bundle takes several channels, the first file holds one, and its name does not say
        which, or another is missing; or if the header of the first file cannot be read.
    """
    count = len(manifest.channels)
    if count == 1 or read_header(image)[0] > 1:
        return (image,)
    files = tuple(found for index in range(count) if (found := channel(image, index)))
    if not files:
        raise InvalidImage(
            f"{image}: the bundle takes {count} channels ({', '.join(manifest.channels)}): "
            "name the first file CASE_0000 and the others CASE_0001, …"
        )
    for file in files:
        if not file.exists():
            raise InvalidImage(
                f"{file}: no such file: {image.name} holds one channel and the bundle takes "
                f"{count} ({', '.join(manifest.channels)})"
            )
    return files


def protect(
    files: Sequence[Path],
    subject: str,
    manifest: ClientManifest,
    half: ClientHalf,
    mixture: int = 0,
    watcher: Watcher = UNWATCHED,
) -> Outgoing:
    """Read, bring to the bundle's grid and protect one image. Nothing is sent.

    Parameters
    ----------
    files : sequence of Path
        One per channel.
    subject : str
        Who it is; stays at the site.
    mixture : int
        Which of several proxies of this image, in test-time augmentation.

    Raises
    ------
    InvalidInput
        If the image cannot be used.
    """
    started = time.perf_counter()
    watcher.began("preparing")
    volume = read_image(files)
    watcher.read(volume)
    spacing_mm = spacing_for(volume, manifest, str(files[0]))
    prepared = prepare(volume, spacing_mm, manifest.intensity, manifest.tile_shape)
    warnings = warnings_for(volume, prepared.array, manifest.expectation, manifest.unit)
    watcher.began("protecting")
    proxy, receipt = half.protect(prepared.array, subject, mixture)
    seconds = time.perf_counter() - started
    return Outgoing(proxy, receipt, prepared.restoration, warnings, seconds)


def process(
    proxy: Proxy, manifest: ClientManifest, processor: TileProcessor, progress: Progress | None
) -> Answer:
    """Have a proxy processed tile by tile and blend the answers; or keep them apart, where tiles
    were protected one by one and only the site can blend them.

    Raises
    ------
    ServerError
        Whatever the processor raises; InvalidAnswer if an answer has the wrong shape.
    """

    def answered(tiles: Iterable[Float32Array]) -> Iterator[Float32Array]:
        return (_checked(answer, manifest) for answer in answers_of(processor, tiles))

    if not proxy.tiled:
        tile, overlap = manifest.tile_shape, manifest.tile_overlap
        return Answer(sliding_window(proxy.array, tile, overlap, answered, progress))
    answers = []
    for number, answer in enumerate(answered(proxy.array)):
        answers.append(answer)
        if progress is not None:
            progress(number + 1, len(proxy.array))
    return Answer(np.stack(answers))


def _checked(answer: Float32Array, manifest: ClientManifest) -> Float32Array:
    expected = manifest.answer.shape[1:]
    if answer.shape != expected or not np.isfinite(answer).all():
        raise InvalidAnswer(
            f"answer of shape {answer.shape}; expected finite values of shape {expected}"
        )
    return answer


def recover(
    outgoing: Sequence[Outgoing],
    manifest: ClientManifest,
    halves: Sequence[ClientHalf],
    processor: TileProcessor,
    progress: Progress | None,
    watcher: Watcher = UNWATCHED,
) -> Recovered:
    """Have each proxy of one image processed, recover it on its own, and average.

    One answer is held at a time, and one sum per half.

    Parameters
    ----------
    outgoing : sequence of Outgoing
        Of one image: one, or several in test-time augmentation.
    halves : sequence of ClientHalf
        Ways to recover the same answers.
    progress : callable or None
        Called with (tiles done, tiles in all) over all proxies.

    Raises
    ------
    ServerError
        As :func:`process`.
    """
    sums: list[Float32Array] = []
    seconds = dict.fromkeys(("process", "recover"), 0.0)

    def count(number: int) -> Progress | None:
        if progress is None:
            return None
        return lambda done, tiles: progress(number * tiles + done, len(outgoing) * tiles)

    for number, one in enumerate(outgoing):
        started = time.perf_counter()
        watcher.began("sending")
        answer = process(one.proxy, manifest, processor, count(number))
        answered = time.perf_counter()
        watcher.answered(one.proxy, one.restoration, answer)
        watcher.began("recovering")
        found = [half.recover(answer, one.receipt) for half in halves]
        sums = [total + new for total, new in zip(sums, found, strict=True)] if sums else found
        seconds["process"] += answered - started
        seconds["recover"] += time.perf_counter() - answered
    # Nothing is averaged of one: what was recovered stays as it is, to the bit.
    mean = [total / np.float32(len(outgoing)) for total in sums] if len(outgoing) > 1 else sums
    return Recovered(tuple(mean), seconds)


def segment(
    files: Sequence[Path],
    subject: str,
    manifest: ClientManifest,
    half: ClientHalf,
    processor: TileProcessor,
    before_sending: Callable[[Sequence[Proxy]], None] | None = None,
    progress: Progress | None = None,
    mixtures: int = 1,
    uncertainty: bool = False,
    watcher: Watcher = UNWATCHED,
) -> Segmented:
    """Segment one image from end to end.

    Parameters
    ----------
    before_sending : callable or None
        Sees all proxies before anything leaves: the ledger's veto.
    progress : callable or None
        Called with (tiles done, tiles in all).
    mixtures : int
        Proxies whose results are averaged (test-time augmentation). Each shows the server more.
    uncertainty : bool
        Whether to map the predictive entropy as well.
    watcher : Watcher
        Is told each stage, and shown what there is.

    Raises
    ------
    InvalidInput, ServerError
        Nothing is written then.
    """
    outgoing = [
        protect(files, subject, manifest, half, number, watcher) for number in range(mixtures)
    ]
    if before_sending is not None:
        before_sending([one.proxy for one in outgoing])
    traffic = traffic_of(processor)
    recovered = recover(outgoing, manifest, [half], processor, progress, watcher)
    sent, received = (
        after - before for after, before in zip(traffic_of(processor), traffic, strict=True)
    )
    started = time.perf_counter()
    probabilities, restoration = recovered.probabilities[0], outgoing[0].restoration
    labels = restore(probabilities, restoration)
    entropy = None
    if uncertainty:
        entropy = restore_map(predictive_entropy(probabilities), restoration, outside=0.0)
    seconds = {"protect": sum(one.seconds for one in outgoing), **recovered.seconds}
    seconds["recover"] += time.perf_counter() - started
    volumes = volumes_ml(labels, manifest)
    return Segmented(labels, volumes, outgoing[0].warnings, seconds, entropy, sent, received)
