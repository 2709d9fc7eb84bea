"""A15: whose proxy is it? A gallery of raw images of the same people is compared with each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import fft, ndimage
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from veilseg.audit.attacks.averaging import means
from veilseg.audit.chance import hit_interval, rate
from veilseg.audit.findings import Control, Finding, NotRun, Threat, rounded
from veilseg.audit.fitting import run
from veilseg.audit.grids import central, fitted
from veilseg.audit.laws import Law, NobodyLaw
from veilseg.audit.nulls import WHAT, several_of_nobody
from veilseg.audit.scene import Observation
from veilseg.audit.separator import separated, separator
from veilseg.audit.similarity import ms_ssim
from veilseg.audit.workshop import Workshop
from veilseg.datasets.cases import PreparedCase
from veilseg.networks.identity import WIDTHS, Embedding
from veilseg.payload import Float32Array
from veilseg.training.augmentation import Augmentation
from veilseg.training.examples import Arrays
from veilseg.training.loader import Batch

FINDING = Finding("A15", "Re-identification", "identity", Threat(gallery=1), "rank-1")
TEMPERATURE = 0.1
CONTROL_RANK_1 = 0.8
SHIFT_PART = 8
# Of the augmentation that training uses: how far two scans of one person differ.
SECOND_SCAN = 0.3
# In voxels, and of the range of intensities.
SMOOTHED, OTHER_NOISE = 0.7, 0.03
# Coarser than this many voxels is how somebody lay in the coil rather than who it is.
DETAIL = 3.0
# Proxies of one person, where the site allows several.
AVERAGED = 4
WHOLE, DETAILS, STRUCTURE, ANSWERS, ENCODED, SIAMESE = (
    "correlation",
    "correlation of details",
    "MS-SSIM",
    "correlation of answers",
    "correlation of encodings",
    "Siamese network",
)


class Siamese(nn.Module):
    """Proxy and raw image to one space, in which those of one person lie close together.

    Parameters
    ----------
    spatial_dims, channels : int
    maps : int or None
        Of a proxy on a coarser grid than the image's; None: it is like the image.
    halvings : int
        By how many halvings that grid is coarser.
    """

    def __init__(
        self, spatial_dims: int, channels: int, maps: int | None = None, halvings: int = 0
    ) -> None:
        super().__init__()
        self.of_proxy = Embedding(spatial_dims, maps or channels, WIDTHS[halvings:])
        self.of_image = Embedding(spatial_dims, channels)

    def loss(self, batch: Batch) -> Tensor:
        """Each proxy is to find its own image among those of the batch, and the other way."""
        scores = self.of_proxy(batch["proxy"]) @ self.of_image(batch["gallery"]).T / TEMPERATURE
        own = torch.arange(len(scores))
        return cross_entropy(scores.float(), own) + cross_entropy(scores.T.float(), own)


@dataclass(frozen=True)
class AcquiredAgain:
    """A proxy, and the same person's image acquired another time."""

    law: Law

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:
        again = with_other_noise(second_scan(case, rng), rng)
        return self.law.example(case, rng) | {"gallery": again}


def second_scan(case: PreparedCase, rng: Generator) -> Float32Array:
    """The image of one person as another scan would show it, but for noise: (C, X, Y[, Z])."""
    again, _ = Augmentation(case.labels.ndim, strength=SECOND_SCAN)(case.image, case.labels, rng)
    return again


def attack(workshop: Workshop) -> list[Finding]:
    """Rank-1 of the strongest of several comparisons, with a gallery acquired another time."""
    if workshop.scene.encodes:
        raise NotRun("A15e is for encodings")
    scene = workshop.scene
    cases, gallery, source = second_acquisitions(workshop)
    seen = scene.observe(cases)
    found = comparisons(workshop, seen, gallery)
    hits = {name: rank_1(scores) for name, scores in found.items()}
    best = max(hits, key=lambda name: float(np.mean(hits[name])))
    overall = rate(hits[best].tolist(), [case.patient for case in cases])
    raw = correlated([one.image for one in seen], gallery)
    known = max(float(rank_1(scores).mean()) for scores in raw.values())
    positive = Control("raw image against raw image", known, low=CONTROL_RANK_1)
    nobody = scene.simulate(NobodyLaw(scene.law(), scene.auxiliary), cases, answered=True)
    null = null_of_hits(rank_1(comparisons(workshop, nobody, gallery)[best]), len(gallery))
    details = {
        "strongest": best,
        "rank_1": {name: rounded(float(values.mean())) for name, values in hits.items()},
        "map_at_5": rounded(mean_average_precision(found[best], 5)),
    }
    finding = replace(FINDING, threat=Threat(gallery=len(gallery)))
    chance, setting = {"chance": 1 / len(gallery)}, f"gallery: {source}"
    default = finding.measured(overall, chance, positive, null, details, setting)
    if not scene.averages:
        return [default]
    return [default, _averaged(workshop, default, cases, gallery)]


def _averaged(
    workshop: Workshop,
    default: Finding,
    cases: Sequence[PreparedCase],
    gallery: Sequence[Float32Array],
) -> Finding:
    """The same with the mean of several proxies of each person."""
    scene = workshop.scene
    seen = [scene.observe(cases, number, answered=False) for number in range(AVERAGED)]
    hits = {name: rank_1(scores) for name, scores in correlated(means(seen), gallery).items()}
    best = max(hits, key=lambda name: float(hits[name].mean()))
    overall = rate(hits[best].tolist(), [case.patient for case in cases])
    nobody = means(several_of_nobody(workshop, cases, scene.auxiliary, AVERAGED))
    assert default.positive_control is not None
    controls = (
        default.positive_control,
        null_of_hits(rank_1(correlated(nobody, gallery)[best]), len(gallery)),
    )
    setting = f"mean of {AVERAGED} fresh proxies (--allow-repeat); {default.setting}"
    finding = replace(FINDING, threat=Threat(gallery=len(gallery), proxies_per_subject=AVERAGED))
    details = {"strongest": best}
    return finding.measured(overall, default.baseline, *controls, details, setting, "if asked for")


def null_of_hits(hits: NDArray[np.float64], candidates: int) -> Control:
    """Hits by proxies of other people against what chance alone hits."""
    low, high = hit_interval(len(hits), 1 / candidates)
    return Control(WHAT, float(hits.mean()), low, high)


def comparisons(
    workshop: Workshop, seen: Sequence[Observation], gallery: Sequence[Float32Array]
) -> dict[str, NDArray[np.float64]]:
    """How alike every proxy and every entry of the gallery are, by several measures."""
    scene = workshop.scene
    tile = scene.manifest.tile_shape
    proxies = [one.proxy for one in seen]
    found = correlated(proxies, gallery)
    if scene.hides:
        network = separator(workshop, scene.coefficient, sees_answer=True)
        images = [image for image, _ in separated(network, seen)]
        for name, scores in correlated(images, gallery).items():
            found[f"{name} after A5"] = scores
        if workshop.effort.thorough:
            found[f"{STRUCTURE} after A5"] = structure(images, gallery)
    # What the server's network makes of the gallery, against what it answered.
    answers = [one.answer[1:] for one in seen]
    sent = scene.as_sent(gallery)
    found[ANSWERS] = correlations(answers, [scene.server(image)[1:] for image in sent])
    if scene.encodes_images:
        found[ENCODED] = correlations(proxies, sent)
    if not workshop.effort.thorough:
        return found
    found[STRUCTURE] = structure(proxies, gallery)
    siamese = workshop.trained(
        "siamese",
        lambda: Siamese(len(tile), len(scene.manifest.channels)),
        AcquiredAgain(scene.law()),
        lambda network, batch: network.loss(batch),  # type: ignore[operator]  # it is a Siamese
        steps=workshop.effort.steps // 2,
        batch=workshop.effort.people_per_step,
    )
    assert isinstance(siamese, Siamese)
    found[SIAMESE] = embedded(siamese, proxies, gallery)
    return found


def second_acquisitions(
    workshop: Workshop,
) -> tuple[list[PreparedCase], list[Float32Array], str]:
    """Who is looked for, the gallery in the same order, and where it comes from.

    Real second scans where each patient has two images; else each image is placed, scaled and
    coloured anew, with noise.
    """
    scene = workshop.scene
    tile = scene.manifest.tile_shape
    by_patient: dict[str, list[PreparedCase]] = {}
    for case in scene.audited:
        by_patient.setdefault(case.patient, []).append(case)
    pairs = [cases for cases in by_patient.values() if len(cases) == 2]
    if len(pairs) == len(by_patient):
        first = [pair[0] for pair in pairs]
        return first, [fitted(pair[1], tile).image for pair in pairs], "their other scans"
    cases = workshop.audited
    gallery = []
    for number, case in enumerate(cases):
        rng = np.random.default_rng([scene.seed, 8, number])
        image = second_scan(case, rng)
        gallery.append(with_other_noise(image, rng)[(slice(None), *central(image.shape[1:], tile))])
    return cases, gallery, "the same images, altered as a second scan would be"


def with_other_noise(image: Float32Array, rng: Generator) -> Float32Array:
    """A second scan has noise of its own: most of the first one's is smoothed away."""
    smooth = ndimage.gaussian_filter(image, (0, *[SMOOTHED] * (image.ndim - 1)))
    noisy = smooth + OTHER_NOISE * rng.standard_normal(image.shape, dtype=np.float32)
    return np.where(image > 0, np.clip(noisy, 0, 1), 0).astype(np.float32)


def correlated(
    queries: Sequence[Float32Array], gallery: Sequence[Float32Array]
) -> dict[str, NDArray[np.float64]]:
    sharp = [[_details(image) for image in images] for images in (queries, gallery)]
    return {WHOLE: correlations(queries, gallery), DETAILS: correlations(*sharp)}


def _details(image: Float32Array) -> Float32Array:
    coarse = ndimage.gaussian_filter(image, (0, *[DETAIL] * (image.ndim - 1)))
    return np.asarray(image - coarse, dtype=np.float32)


def correlations(
    queries: Sequence[Float32Array], gallery: Sequence[Float32Array]
) -> NDArray[np.float64]:
    """Correlation of voxels, at the best of all small shifts: (queries, gallery).

    By fast Fourier transforms, circularly; a shift is at most an eighth of a side.
    """
    rows, columns = ([_spectrum(image) for image in images] for images in (queries, gallery))
    return np.array([[_best_shift(row, column) for column in columns] for row in rows])


def structure(
    queries: Sequence[Float32Array], gallery: Sequence[Float32Array]
) -> NDArray[np.float64]:
    """MS-SSIM of every query to every entry: (queries, gallery)."""
    return np.array([[ms_ssim(one, entry) for entry in gallery] for one in queries])


def rank_1(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 where the own entry of the gallery, at the same position, has the highest score."""
    return np.asarray(scores.argmax(axis=1) == np.arange(len(scores)), dtype=np.float64)


def mean_average_precision(scores: NDArray[np.float64], depth: int) -> float:
    """Mean over queries of one over the own entry's rank, ties lost; nothing beyond a depth."""
    own = np.diag(scores)[:, None]
    ranks = (scores >= own).sum(axis=1)
    return float(np.where(ranks <= depth, 1 / ranks, 0).mean())


def embedded(
    siamese: Siamese, proxies: Sequence[Float32Array], gallery: Sequence[Float32Array]
) -> NDArray[np.float64]:
    """How close each proxy and each entry of the gallery lie: (proxies, gallery)."""
    rows = np.stack([run(siamese.of_proxy, one) for one in proxies])
    columns = np.stack([run(siamese.of_image, one) for one in gallery])
    return np.asarray(rows @ columns.T, dtype=np.float64)


def _spectrum(image: Float32Array) -> NDArray[np.complex128]:
    """Of each channel, centred and of unit energy over all channels."""
    centred = image - image.mean(axis=tuple(range(1, image.ndim)), keepdims=True)
    centred = centred / max(float(np.linalg.norm(centred)), 1e-12)
    return np.asarray(fft.fftn(centred, axes=range(1, image.ndim)))


def _best_shift(row: NDArray[np.complex128], column: NDArray[np.complex128]) -> float:
    product = (row * column.conj()).sum(axis=0)
    by_shift = np.real(fft.ifftn(product))
    for axis, size in enumerate(by_shift.shape):
        reach = max(1, size // SHIFT_PART)
        by_shift = by_shift.take(range(-reach, reach + 1), axis=axis, mode="wrap")
    return float(by_shift.max())
