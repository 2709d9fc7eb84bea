"""Who is who: images of the audited acquired another time, and how often they are recognised."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from veilseg.audit.chance import hit_interval
from veilseg.audit.findings import Control
from veilseg.audit.grids import central, fitted
from veilseg.audit.nulls import WHAT
from veilseg.audit.workshop import Workshop
from veilseg.datasets.cases import PreparedCase
from veilseg.payload import Float32Array
from veilseg.training.augmentation import Augmentation

# Of the augmentation that training uses: how far two scans of one person differ.
SECOND_SCAN = 0.3
# In voxels, and of the range of intensities.
SMOOTHED, OTHER_NOISE = 0.7, 0.03

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Gallery:
    """Raw images among which the right one is looked for.

    Other images of whom is looked for are no candidates: to take one of them for the right one
    would name the right person.

    Attributes
    ----------
    images : sequence of ndarray, shape (C, *tile), float32
    people : sequence of str
        Whose they are.
    right : sequence of int
        For each that is looked for, the place of the right image.
    """

    images: Sequence[Float32Array]
    people: Sequence[str]
    right: Sequence[int]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def chance(self) -> float:
        """How often a guess is right."""
        return float(np.mean(1 / self._candidates().sum(axis=1)))

    def hits(self, scores: Scores) -> Scores:
        """1 where the right image has the highest score of all candidates: (looked for,)."""
        return np.asarray(self.ranked(scores).argmax(axis=1) == self.right, dtype=np.float64)

    def ranked(self, scores: Scores) -> Scores:
        """Scores (looked for, images), minus infinity for what is no candidate."""
        return np.where(self._candidates(), scores, -np.inf)

    def mean_average_precision(self, scores: Scores, depth: int) -> float:
        """Mean of one over the right image's rank, ties lost; nothing beyond a depth."""
        ranked = self.ranked(scores)
        own = ranked[np.arange(len(ranked)), self.right][:, None]
        ranks = (ranked >= own).sum(axis=1)
        return float(np.where(ranks <= depth, 1 / ranks, 0).mean())

    def null(self, hits: Scores, what: str = WHAT) -> Control:
        """Hits by proxies of other people against what chance alone hits.

        Where candidates differ in number, the interval is that of their mean chance: a little wide.
        """
        low, high = hit_interval(len(hits), self.chance)
        return Control(what, float(hits.mean()), low, high)

    def _candidates(self) -> NDArray[np.bool_]:
        people, right = np.asarray(self.people), np.asarray(self.right)
        found: NDArray[np.bool_] = people[right][:, None] != people
        found[np.arange(len(right)), right] = True
        return found


def second_acquisitions(workshop: Workshop) -> tuple[list[PreparedCase], Gallery, str]:
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
        others = [fitted(pair[1], tile).image for pair in pairs]
        return first, _in_order(others, first), "their other scans"
    cases = workshop.audited
    images = []
    for number, case in enumerate(cases):
        rng = np.random.default_rng([scene.seed, 8, number])
        image = second_scan(case, rng)
        images.append(with_other_noise(image, rng)[(slice(None), *central(image.shape[1:], tile))])
    source = "the same images, altered as a second scan would be"
    return cases, _in_order(images, cases), source


def _in_order(images: Sequence[Float32Array], cases: Sequence[PreparedCase]) -> Gallery:
    return Gallery(images, [case.patient for case in cases], range(len(cases)))


def second_scan(case: PreparedCase, rng: Generator) -> Float32Array:
    """The image of one person as another scan would show it, but for noise: (C, X, Y[, Z])."""
    again, _ = Augmentation(case.labels.ndim, strength=SECOND_SCAN)(case.image, case.labels, rng)
    return again


def with_other_noise(image: Float32Array, rng: Generator) -> Float32Array:
    """A second scan has noise of its own: most of the first one's is smoothed away."""
    smooth = ndimage.gaussian_filter(image, (0, *[SMOOTHED] * (image.ndim - 1)))
    noisy = smooth + OTHER_NOISE * rng.standard_normal(image.shape, dtype=np.float32)
    return np.where(image > 0, np.clip(noisy, 0, 1), 0).astype(np.float32)
