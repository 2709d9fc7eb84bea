"""A9: who is who, asked by somebody who has neither encoder, nor key, nor a single pair.

After Carlini et al. 2021 (arXiv:2108.07256): networks are taught, on encoders of the attacker's
own, to say which image an encoding is of. They look at what no key changes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from veilseg.audit.attacks.reidentification import (
    Siamese,
    embedded,
)
from veilseg.audit.chance import hit_interval, rate
from veilseg.audit.encodings import FreshEncodings, layout_of, own_tiles
from veilseg.audit.findings import Control, DoesNotApply, Finding, Threat, rounded
from veilseg.audit.grids import fitted, on_blocks
from veilseg.audit.laws import Law, NobodyLaw, RawLaw
from veilseg.audit.scene import evenly
from veilseg.audit.second_scans import second_acquisitions, second_scan
from veilseg.audit.workshop import Workshop
from veilseg.datasets.cases import PreparedCase
from veilseg.networks.encoders import Decoder, Encoder, measure_units
from veilseg.payload import Float32Array
from veilseg.schemes.encoding.mapping import as_sequence
from veilseg.schemes.encoding.sequence import STRIDES, Layout
from veilseg.schemes.encoding.stages import image_loss
from veilseg.schemes.encoding.training import MEASURED
from veilseg.training.examples import Arrays
from veilseg.training.loader import Batch

FINDING = Finding(
    *("A9", "Matching without pairs", "identity"),
    Threat(knows_networks=False, gallery=1),
    "matched fraction",
)
# Encoders of the attacker's own to learn by; what is learned must hold for one more.
SURROGATES = 2
BATCH = 4
# From the image's grid to the finest of an encoding.
HALVINGS = int(math.log2(STRIDES[0]))


class Surrogate(nn.Module):
    """An image encoder as a site trains one, with the decoders that it needs for that."""

    def __init__(self, layout: Layout, channels: int, classes: int) -> None:
        super().__init__()
        dims, widths = len(layout.levels[0].grid), [level.channels for level in layout.levels]
        self.encoder = Encoder(dims, channels, widths, norm=True)
        self.decoder, self.hint = (Decoder(dims, widths, maps) for maps in (channels, classes))

    def forward(self, batch: Batch) -> Tensor:
        return image_loss(self.encoder(batch["image"]), self.decoder, self.hint, batch)

    @torch.no_grad()
    def encoded(self, image: Float32Array) -> Float32Array:
        """The sequence (values,) of one tile."""
        found: Float32Array = as_sequence(self.encoder(torch.from_numpy(image)[None])).numpy()[0]
        return found


@dataclass(frozen=True)
class SurrogateLaw:
    """What no key changes of a surrogate's encoding, and the image acquired another time."""

    surrogates: Sequence[Surrogate]
    layout: Layout

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:
        surrogate = self.surrogates[int(rng.integers(len(self.surrogates)))]
        known = invariants(surrogate.encoded(case.image), self.layout)
        return {"proxy": known, "gallery": second_scan(case, rng)}


def attack(workshop: Workshop) -> list[Finding]:
    """Share of encodings that are assigned to the right image of a gallery."""
    scene = workshop.scene
    if not scene.encodes:
        raise DoesNotApply("nothing is encoded")
    layout = layout_of(scene, "image")
    cases, gallery, source = second_acquisitions(workshop)
    surrogates = [surrogate(workshop, number) for number in range(SURROGATES)]
    maps = number_of_invariants(len(scene.manifest.tile_shape))
    law = SurrogateLaw(surrogates, layout)
    matcher = fitted_siamese(workshop, "matcher", maps, law, workshop.effort.steps)

    def matched(sequences: Sequence[Float32Array]) -> NDArray[np.float64]:
        known = [invariants(sequence, layout) for sequence in sequences]
        scores = gallery.ranked(embedded(matcher, known, gallery.images))
        _, columns = linear_sum_assignment(-scores)
        return np.asarray(columns == gallery.right, dtype=np.float64)

    seen = scene.observe(cases, answered=False)
    hits = matched([one.proxy for one in seen])
    unknown = surrogate(workshop, SURROGATES)
    own = [unknown.encoded(fitted(c, scene.manifest.tile_shape).image) for c in cases]
    _, more_than_chance = hit_interval(len(cases), gallery.chance)
    positive = Control(
        "encodings by an encoder that the matcher was not fitted to",
        float(matched(own).mean()),
        low=more_than_chance,
    )
    nobody = scene.simulate(NobodyLaw(scene.law(), scene.auxiliary), cases, answered=False)
    null = gallery.null(matched([one.proxy for one in nobody]))
    finding = replace(FINDING, threat=replace(FINDING.threat, gallery=len(gallery)))
    overall = rate(hits.tolist(), [case.patient for case in cases])
    details = {"with_own_encoder": rounded(positive.value)}
    chance = {"chance": gallery.chance}
    return [finding.measured(overall, chance, positive, null, details, f"gallery: {source}")]


def invariants(sequence: Float32Array, layout: Layout) -> Float32Array:
    """What stays of an encoding under any orthogonal change of basis and any shift.

    Parameters
    ----------
    sequence : ndarray, shape (values,), float32
    layout : Layout

    Returns
    -------
    ndarray, shape (2 + D + 1, *grid), float32
        On the finest grid: each token's distance from the mean token, from the mean of its
        neighbourhood and from its neighbour along each axis; and the coarser level's distance from
        the mean, brought to the same grid. Each is relative to its own mean.
    """
    fine, coarse = layout.grids(sequence)
    axes = range(1, fine.ndim)
    around = ndimage.uniform_filter(fine, (0, *[3] * len(axes)), mode="nearest")
    steps = [np.diff(fine, axis=axis, append=fine.take([-1], axis=axis)) for axis in axes]
    below = on_blocks(_length(_centred(coarse)), fine.shape[1:])
    found = np.stack([*map(_length, (_centred(fine), fine - around, *steps)), below])
    scale = found.mean(axis=tuple(axes), keepdims=True)
    return np.asarray(found / np.maximum(scale, 1e-6), dtype=np.float32)


def number_of_invariants(spatial_dims: int) -> int:
    """Maps that :func:`invariants` has."""
    return spatial_dims + 3


def _centred(grid: Float32Array) -> Float32Array:
    mean: Float32Array = grid.mean(axis=tuple(range(1, grid.ndim)), keepdims=True)
    return grid - mean


def _length(grid: Float32Array) -> Float32Array:
    return np.asarray(np.linalg.norm(grid, axis=0), dtype=np.float32)


def surrogate(workshop: Workshop, number: int) -> Surrogate:
    """An encoder of the attacker's own by number, fitted once."""
    scene = workshop.scene
    # Each from other people, too: two encoders that differ as sites' would.
    own = own_tiles(scene)[number :: SURROGATES + 1]
    steps = workshop.effort.steps
    examples = FreshEncodings(own, RawLaw(scene.classes), steps * BATCH, scene.seed + number)
    found = workshop.fitted(
        f"surrogate-{number}",
        lambda: Surrogate(layout_of(scene, "image"), len(scene.manifest.channels), scene.classes),
        examples,
        lambda network, batch: network(batch),
        steps,
        BATCH,
    )
    assert isinstance(found, Surrogate)
    tiles = [torch.from_numpy(case.image)[None] for case in evenly(own, MEASURED)]
    measure_units(found.encoder, [found.decoder, found.hint], tiles)
    return found


def fitted_siamese(workshop: Workshop, name: str, maps: int, law: Law, steps: int) -> Siamese:
    """A network that tells whose encodings are, by maps on their finest grid.

    Parameters
    ----------
    workshop : Workshop
    name : str
        By which it is trained once.
    maps : int
    law : Law
        Of such maps (``proxy``) and raw images (``gallery``).
    steps : int
    """
    scene, batch = workshop.scene, workshop.effort.people_per_step
    dims, channels = len(scene.manifest.tile_shape), len(scene.manifest.channels)
    found = workshop.fitted(
        name,
        lambda: Siamese(dims, channels, maps, HALVINGS),
        FreshEncodings(own_tiles(scene), law, steps * batch, scene.seed),
        lambda network, batch: network.loss(batch),  # type: ignore[operator]  # it is a Siamese
        steps,
        batch,
    )
    assert isinstance(found, Siamese)
    return found
