"""The population label template: what synthetic references start from.

A mean over all training patients, never one of them: labels by majority, the unlabelled rest cut
into tissues by the mean intensity, so that a reference has anatomy outside the labels too.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.cluster.vq import kmeans2

from veilseg.datasets.cases import PreparedCase
from veilseg.payload import Float32Array
from veilseg.schemes.references import Template

UNLABELLED_TISSUES = 6
# A class that has less than this share of its usual voxels in the template would hardly occur in
# references, and an answer would show the patient's mask alone.
LEAST_REPRESENTED = 0.3
# Bounds memory: labels are averaged over this many cases at the most, evenly chosen.
MOST_CASES = 100


def population_template(
    cases: Sequence[PreparedCase], tile_shape: tuple[int, ...], classes: int, seed: int
) -> Template:
    """Average prepared cases into a tissue map.

    Parameters
    ----------
    cases : sequence of PreparedCase
        Training cases.
    tile_shape : (X, Y, Z)
        Grid of the template.
    classes : int
    seed : int
        Of the clustering.
    """
    chosen = [cases[i] for i in np.unique(np.linspace(0, len(cases) - 1, MOST_CASES).astype(int))]
    votes = np.zeros((classes, *tile_shape), dtype=np.float32)
    presence = np.zeros(tile_shape, dtype=np.float32)
    mean = np.zeros((chosen[0].image.shape[0], *tile_shape), dtype=np.float32)
    square = np.zeros_like(mean)
    for case in chosen:
        grid = _filling(tile_shape, case.labels.shape)
        labels = ndimage.map_coordinates(case.labels, grid, order=0)
        image = np.stack([ndimage.map_coordinates(c, grid, order=1) for c in case.image])
        for value in range(classes):
            votes[value] += labels == value
        presence += (image > 0).any(axis=0)
        mean += image
        square += image**2
    mean /= np.maximum(presence, 1)
    spread = np.sqrt(np.maximum(square / np.maximum(presence, 1) - mean**2, 0))
    labels = votes.argmax(axis=0)
    # Label 0 tissues: 0 is empty, then clusters of the mean image; labelled tissues follow.
    empty = (presence < len(chosen) / 2) & (labels == 0)
    unlabelled = (labels == 0) & ~empty
    tissues = np.zeros(tile_shape, dtype=np.uint8)
    count = 1
    if unlabelled.any():
        values = mean[:, unlabelled].T.astype(np.float64)
        _, member = kmeans2(values, UNLABELLED_TISSUES, minit="++", rng=np.random.default_rng(seed))
        _, member = np.unique(member, return_inverse=True)
        tissues[unlabelled] = 1 + member
        count += int(member.max()) + 1
    label_of_tissue = [0] * count
    for value in range(1, classes):
        tissues[labels == value] = len(label_of_tissue)
        label_of_tissue.append(value)
    return Template(
        tissues,
        np.array(label_of_tissue, dtype=np.uint8),
        _per_tissue(mean, tissues, len(label_of_tissue)),
        _per_tissue(spread, tissues, len(label_of_tissue)),
    )


def represents(template: Template, cases: Sequence[PreparedCase]) -> bool:
    """Whether references drawn from a template show every class about as much as patients do.

    Organs at a common place do; nuclei, vessels or lesions, which lie anywhere, vanish in the
    majority vote.
    """
    labels = template.label_of_tissue[template.tissues]
    for value in range(1, max(int(case.labels.max()) for case in cases) + 1):
        usual = np.mean([(case.labels == value).mean() for case in cases])
        if (labels == value).mean() < LEAST_REPRESENTED * usual:
            return False
    return True


def _filling(shape: tuple[int, ...], source: tuple[int, ...]) -> Float32Array:
    """Source coordinates that scale a source to fill ``shape``."""
    ratio = np.asarray(source) / np.asarray(shape)
    centre = ((ratio - 1) / 2).reshape(-1, *[1] * len(shape))
    grid = np.indices(shape) * ratio.reshape(centre.shape) + centre
    return np.asarray(grid, dtype=np.float32)


def _per_tissue(values: Float32Array, tissues: NDArray[np.uint8], count: int) -> Float32Array:
    """Mean of (C, X, Y, Z) values over each tissue: (T, C). A tissue without voxels gets 0."""
    where = tissues.ravel()
    size = np.maximum(np.bincount(where, minlength=count), 1)
    sums = [np.bincount(where, channel.ravel(), minlength=count) for channel in values]
    return np.asarray((np.array(sums) / size).T, dtype=np.float32)
