"""A1: the reference is a case of a gallery that the attacker has."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate, relu

from veilseg.audit.chance import hit_interval, rate
from veilseg.audit.findings import Control, Finding, NotRun, Occurs, Threat, rounded
from veilseg.audit.grids import fitted
from veilseg.audit.laws import MixtureLaw
from veilseg.audit.scene import Observation, evenly
from veilseg.audit.similarity import ssim
from veilseg.audit.workshop import Workshop
from veilseg.datasets.cases import PreparedCase
from veilseg.payload import Float32Array
from veilseg.schemes.references import Reference, labelled_reference
from veilseg.training.interface import Arrays

SMALL_GALLERY, CONTROL_HIT_RATE = 3, 0.9
EASY_COEFFICIENT = 0.2
FINDING = Finding(
    *("A1", "Gallery of references", "image"),
    Threat(gallery=SMALL_GALLERY, knows_networks=False),
    "hit rate",
)
# Every candidate is registered to every proxy.
MOST_PEOPLE = 20
# Of the registration: a displacement per node, and a curve of intensities through knots.
NODES_PER_AXIS, KNOTS = 6, 6
LEARNING_RATE = 0.02
OUT_OF_RANGE = 5.0  # weight of what lies outside [0, 1] against total variation
SMOOTHNESS = 0.5  # weight of the displacement's differences between nodes


@dataclass(frozen=True)
class GalleryLaw:
    """Mixtures whose reference is a given case, with or without the site's secret warp."""

    law: MixtureLaw
    base: PreparedCase
    warped: bool

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:
        reference = Reference(self.base.image, self.base.labels)
        if self.warped:
            reference = labelled_reference(reference, case.labels.shape, rng)
        return self.law.mixed(case, reference, rng)


@dataclass(frozen=True)
class Guess:
    """What registration of every candidate ends with.

    Attributes
    ----------
    candidate : int
        The one that leaves the most plausible patient.
    image : ndarray, shape (C, *tile), float32
        That patient.
    """

    candidate: int
    image: Float32Array


def attack(workshop: Workshop) -> list[Finding]:
    """How often the right candidate is found, for references without and with the secret warp.

    Each candidate is registered to the mixture, by an affine map, a smooth displacement and a curve
    of intensities; the one whose removal leaves the least total variation and the fewest values
    outside [0, 1] is taken.
    """
    scene = workshop.scene
    # One of the attacker's people is kept as the one whom no gallery has.
    most = len(workshop.scene.auxiliary) - 1
    sizes = [size for size in workshop.effort.galleries if size <= most]
    if not sizes:
        raise NotRun(f"the attacker has {most + 1} images: too few for a gallery")
    finding = replace(FINDING, threat=replace(FINDING.threat, gallery=sizes[-1]))
    law = scene.law()
    if not isinstance(law, MixtureLaw):
        raise NotRun("nothing is mixed")
    tile = scene.manifest.tile_shape
    people = [fitted(case, tile) for case in evenly(workshop.audited, MOST_PEOPLE)]
    bases = [fitted(case, tile) for case in evenly(scene.auxiliary, sizes[-1] + 1)]
    absent, bases = bases[-1], bases[:-1]
    hits: dict[str, float] = {}
    curves: dict[str, list[float]] = {}
    images: dict[str, float] = {}
    for warped in (False, True):
        for size in sizes:
            name = f"{size} candidates, {'secret warp' if warped else 'no warp'}"
            found, seen = [], []
            for number, case in enumerate(people):
                right = number % size
                one = _mixture(workshop, GalleryLaw(law, bases[right], warped), case, number)
                guess = guess_reference(
                    one.proxy, bases[:size], law.coefficient, workshop.effort.registration, warped
                )
                found.append(guess)
                seen.append(one)
                workshop.report(number + 1, len(people), f"A1 {name}")
            curves[name] = [float(g.candidate == n % size) for n, g in enumerate(found)]
            hits[name] = float(np.mean(curves[name]))
            images[name] = float(
                np.mean([ssim(g.image, one.image) for g, one in zip(found, seen, strict=True)])
            )
    # The registration itself has to work, where the reference is most of the mixture.
    easy = replace(law, coefficient=EASY_COEFFICIENT)
    named = _hits(workshop, easy, people, bases[:SMALL_GALLERY], warped=True)
    what = f"{SMALL_GALLERY} candidates, secret warp, a = {EASY_COEFFICIENT:g}"
    positive = Control(what, named, low=CONTROL_HIT_RATE)
    missed = _hits(workshop, law, people, bases[:SMALL_GALLERY], warped=False, of=absent)
    low, high = hit_interval(len(people), 1 / SMALL_GALLERY)
    null = Control("the reference is none of the candidates", missed, low, high)
    largest = f"{sizes[-1]} candidates, secret warp"
    overall = rate(curves[largest], [case.patient for case in people])
    details = {
        "hit_rate": {name: rounded(value) for name, value in hits.items()},
        "ssim": {name: rounded(value) for name, value in images.items()},
    }
    setting = f"labelled references of a public gallery: {largest}"
    chance = {"chance": 1 / sizes[-1]}
    occurs: Occurs = "by default" if scene.references else "if asked for"
    return [finding.measured(overall, chance, positive, null, details, setting, occurs)]


def _hits(
    workshop: Workshop,
    law: MixtureLaw,
    people: Sequence[PreparedCase],
    bases: Sequence[PreparedCase],
    warped: bool,
    of: PreparedCase | None = None,
) -> float:
    """How often the candidate is named whose turn it is; ``of`` is mixed in, whoever's turn."""
    found = []
    for number, case in enumerate(people):
        right = number % len(bases)
        one = _mixture(workshop, GalleryLaw(law, of or bases[right], warped), case, number)
        steps = workshop.effort.registration
        guess = guess_reference(one.proxy, bases, law.coefficient, steps, warped)
        found.append(guess.candidate == right)
    return float(np.mean(found))


def guess_reference(
    proxy: Float32Array,
    candidates: Sequence[PreparedCase],
    coefficient: float,
    steps: int,
    warped: bool,
) -> Guess:
    """Register all candidates at once and choose.

    Parameters
    ----------
    proxy : ndarray, shape (C, *tile), float32
    candidates : sequence of PreparedCase
        On the tile's grid.
    coefficient : float
    steps : int
    warped : bool
        Whether to look for a warp; intensities are fitted in any case.
    """
    shown = torch.from_numpy(proxy)[None]
    bases = torch.from_numpy(np.stack([case.image for case in candidates]))
    count, dims = len(bases), proxy.ndim - 1
    matrix = torch.zeros(count, dims, dims + 1, requires_grad=True)
    nodes = torch.zeros(count, dims, *[NODES_PER_AXIS] * dims, requires_grad=True)
    curve = torch.zeros(count, bases.shape[1], KNOTS, requires_grad=True)
    moving = [matrix, nodes, curve] if warped else [curve]
    optimizer = torch.optim.Adam(moving, lr=LEARNING_RATE)
    score = torch.zeros(count)
    patient = bases
    for _ in range(steps):
        reference = _recoloured(_moved(bases, matrix, nodes) if warped else bases, curve)
        patient = (shown - (1 - coefficient) * reference) / coefficient
        score = _implausible(patient)
        roughness = _differences(nodes)
        optimizer.zero_grad()
        (score + SMOOTHNESS * roughness).sum().backward()  # type: ignore[no-untyped-call]  # torch
        optimizer.step()
    best = int(score.argmin())
    image = patient[best].detach().clamp(0, 1).numpy()
    return Guess(best, image)


def _mixture(workshop: Workshop, law: GalleryLaw, case: PreparedCase, number: int) -> Observation:
    scene = replace(workshop.scene, seed=workshop.scene.seed + number)
    (one,) = scene.simulate(law, [case], answered=False)
    return one


def _moved(images: Tensor, matrix: Tensor, nodes: Tensor) -> Tensor:
    """Looked up where an affine map and a displacement between nodes say; both start at nothing."""
    dims = images.ndim - 2
    unit = torch.eye(dims, dims + 1)
    grid = affine_grid(unit + matrix, list(images.shape), align_corners=False)
    mode = "trilinear" if dims == 3 else "bilinear"
    smooth = interpolate(nodes, size=images.shape[2:], mode=mode, align_corners=True)
    return grid_sample(
        images, grid + smooth.movedim(1, -1), padding_mode="border", align_corners=False
    )


def _recoloured(images: Tensor, curve: Tensor) -> Tensor:
    """Intensities through a piecewise linear curve: what the knots add to the identity."""
    place = images.clamp(0, 1) * (KNOTS - 1)
    result = images
    for knot in range(KNOTS):
        near = relu(1 - (place - knot).abs())
        result = result + near * curve[..., knot].reshape(
            *curve.shape[:2], *[1] * (images.ndim - 2)
        )
    return result


def _implausible(patient: Tensor) -> Tensor:
    """Total variation, and what lies outside [0, 1]: (N,)."""
    axes = tuple(range(1, patient.ndim))
    outside = (relu(-patient) + relu(patient - 1)).mean(dim=axes)
    return _differences(patient) + OUT_OF_RANGE * outside


def _differences(maps: Tensor) -> Tensor:
    """Mean absolute difference of neighbours, summed over axes: (N,)."""
    axes = tuple(range(1, maps.ndim))
    return torch.stack(
        [maps.diff(dim=axis).abs().mean(dim=axes) for axis in range(2, maps.ndim)]
    ).sum(dim=0)
