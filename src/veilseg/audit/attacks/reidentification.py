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

from veilseg.audit.attacks.averaging import means, separated_mean
from veilseg.audit.chance import rate
from veilseg.audit.findings import Control, DoesNotApply, Finding, Threat, rounded
from veilseg.audit.fitting import run
from veilseg.audit.laws import Law, NobodyLaw
from veilseg.audit.nulls import several_of_nobody
from veilseg.audit.scene import Observation
from veilseg.audit.second_scans import (
    Gallery,
    second_acquisitions,
    second_scan,
    with_other_noise,
)
from veilseg.audit.separator import separated, separator
from veilseg.audit.similarity import ms_ssim
from veilseg.audit.workshop import Workshop
from veilseg.datasets.cases import PreparedCase
from veilseg.networks.identity import WIDTHS, Embedding
from veilseg.payload import Float32Array
from veilseg.training.examples import Arrays
from veilseg.training.loader import Batch

FINDING = Finding("A15", "Re-identification", "identity", Threat(gallery=1), "rank-1")
TEMPERATURE = 0.1
CONTROL_RANK_1 = 0.8
SHIFT_PART = 8
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


def attack(workshop: Workshop) -> list[Finding]:
    """Rank-1 of the strongest of several comparisons, with a gallery acquired another time."""
    if workshop.scene.encodes:
        raise DoesNotApply("A15e is for encodings")
    scene = workshop.scene
    cases, gallery, source = second_acquisitions(workshop)
    seen = scene.observe(cases)
    found = comparisons(workshop, seen, gallery.images)
    hits = {name: gallery.hits(scores) for name, scores in found.items()}
    best = max(hits, key=lambda name: float(np.mean(hits[name])))
    overall = rate(hits[best].tolist(), [case.patient for case in cases])
    raw = correlated([one.image for one in seen], gallery.images)
    known = max(float(gallery.hits(scores).mean()) for scores in raw.values())
    positive = Control("raw image against raw image", known, low=CONTROL_RANK_1)
    nobody = scene.simulate(NobodyLaw(scene.law(), scene.auxiliary), cases, answered=True)
    null = gallery.null(gallery.hits(comparisons(workshop, nobody, gallery.images)[best]))
    details = {
        "strongest": best,
        "rank_1": {name: rounded(float(values.mean())) for name, values in hits.items()},
        "map_at_5": rounded(gallery.mean_average_precision(found[best], 5)),
    }
    finding = replace(FINDING, threat=Threat(gallery=len(gallery)))
    chance, setting = {"chance": gallery.chance}, f"gallery: {source}"
    default = finding.measured(overall, chance, positive, null, details, setting)
    if not scene.averages:
        return [default]
    return [default, _averaged(workshop, default, cases, gallery)]


def _averaged(
    workshop: Workshop,
    default: Finding,
    cases: Sequence[PreparedCase],
    gallery: Gallery,
) -> Finding:
    """The same with the mean of several proxies of each person, and what A2 makes of it."""
    scene = workshop.scene
    seen = [scene.observe(cases, number, answered=False) for number in range(AVERAGED)]
    of_means = _of_means(workshop, means(seen), gallery.images)
    hits = {name: gallery.hits(scores) for name, scores in of_means.items()}
    best = max(hits, key=lambda name: float(hits[name].mean()))
    overall = rate(hits[best].tolist(), [case.patient for case in cases])
    nobody = means(several_of_nobody(workshop, cases, scene.auxiliary, AVERAGED))
    assert default.positive_control is not None
    controls = (
        default.positive_control,
        gallery.null(gallery.hits(_of_means(workshop, nobody, gallery.images)[best])),
    )
    setting = f"mean of {AVERAGED} fresh proxies (--allow-repeat); {default.setting}"
    finding = replace(FINDING, threat=Threat(gallery=len(gallery), proxies_per_subject=AVERAGED))
    rates = {name: rounded(float(values.mean())) for name, values in hits.items()}
    details = {"strongest": best, "rank_1": rates}
    return finding.measured(overall, default.baseline, *controls, details, setting, "if asked for")


def _of_means(
    workshop: Workshop, mixed: Sequence[Float32Array], gallery: Sequence[Float32Array]
) -> dict[str, NDArray[np.float64]]:
    found = correlated(mixed, gallery)
    if workshop.effort.thorough:
        images = [separated_mean(workshop, mean, AVERAGED)[0] for mean in mixed]
        for name, scores in correlated(images, gallery).items():
            found[f"{name} after A2"] = scores
    return found


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
