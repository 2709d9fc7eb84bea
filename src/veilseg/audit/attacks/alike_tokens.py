"""Tokens of encoded answers that are alike: they draw a structure without any known pair."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from veilseg.audit.attacks.mask_recovery import population_map
from veilseg.audit.encodings import layout_of
from veilseg.audit.grids import means_of_blocks, on_blocks
from veilseg.audit.reading_off import Labels
from veilseg.audit.scene import Observation
from veilseg.audit.workshop import Workshop
from veilseg.payload import Float32Array
from veilseg.schemes.encoding.sequence import Layout
from veilseg.training.examples import one_hot

CLUSTERS = 6


def masks_of_groups(workshop: Workshop, seen: Sequence[Observation]) -> list[Labels]:
    """Masks of some observations, by tokens that are alike in the answers to the audited."""
    layout = layout_of(workshop.scene, "mask")
    known = _tokens(workshop.observed(), layout)
    groups = Groups(known, population_map(workshop), layout, workshop.scene.seed)
    return [groups.labels(one) for one in _tokens(seen, layout)]


def masks_of_groups_of_masks(workshop: Workshop) -> list[Labels]:
    """The same of the masks themselves, each class' share of a token: alike is of one class."""
    scene, layout = workshop.scene, layout_of(workshop.scene, "mask")
    shares = [_shares(one.labels, scene.classes, layout) for one in workshop.observed()]
    groups = Groups(shares, population_map(workshop), layout, scene.seed)
    return [groups.labels(one) for one in shares]


class Groups:
    """Tokens that are alike, each group of the class that is more frequent there than elsewhere.

    Parameters
    ----------
    tokens : sequence of ndarray, shape (tokens, channels)
        Of several answers, on the finest grid. Nothing is known of them but where they lie.
    population : ndarray, shape (K, *tile)
        How frequent each class is at each voxel.
    layout : Layout
    seed : int
    """

    def __init__(
        self,
        tokens: Sequence[NDArray[np.float64]],
        population: Float32Array,
        layout: Layout,
        seed: int,
    ) -> None:
        self.grid, self.tile = layout.levels[0].grid, population.shape[1:]
        self.centres, groups = kmeans2(np.concatenate(tokens), CLUSTERS, minit="++", seed=seed)
        prior = means_of_blocks(population, self.grid).reshape(len(population), -1)
        there = np.tile(prior, len(tokens))
        elsewhere = np.maximum(there.mean(axis=1), 1e-6)
        self.class_of = np.array(
            [
                (there[:, groups == g].mean(axis=1) / elsewhere).argmax()
                if (groups == g).any()
                else 0
                for g in range(CLUSTERS)
            ]
        )

    def labels(self, tokens: NDArray[np.float64]) -> Labels:
        """On the tile."""
        distance = ((tokens[:, None] - self.centres) ** 2).sum(axis=2)
        classes = self.class_of[distance.argmin(axis=1)].reshape(self.grid)
        return np.asarray(on_blocks(classes, self.tile), dtype=np.uint8)


def _tokens(seen: Sequence[Observation], layout: Layout) -> list[NDArray[np.float64]]:
    return [next(layout.split(one.answer)).astype(np.float64) for one in seen]


def _shares(labels: Labels, classes: int, layout: Layout) -> NDArray[np.float64]:
    """Share of each class in the voxels of each token, (tokens, K)."""
    shares = means_of_blocks(one_hot(labels, classes), layout.levels[0].grid)
    return shares.reshape(classes, -1).T
