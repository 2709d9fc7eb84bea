"""Registering candidate references to a mixture: what the secret warp has to withstand."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, avg_pool3d, grid_sample, interpolate, relu

from veilseg.datasets.cases import PreparedCase
from veilseg.payload import Float32Array

# A displacement per node, and a curve of intensities through knots.
NODES_PER_AXIS, KNOTS = 6, 6
LEARNING_RATE = 0.02
OUT_OF_RANGE = 5.0  # weight of what lies outside [0, 1] against total variation
SMOOTHNESS = 0.5  # weight of the displacement's differences between nodes
# Halved for the first steps, unless a side is shorter than this then.
LEAST_COARSE_SIDE = 16
FINE_PART = 3


@dataclass(frozen=True)
class Guess:
    """One of several candidates.

    Attributes
    ----------
    candidate : int
        The one that leaves the most plausible patient.
    image : ndarray, shape (C, *tile), float32
        That patient.
    """

    candidate: int
    image: Float32Array


@dataclass(frozen=True)
class Registered:
    """What registration of every candidate ends with. None has a part in that of another.

    Attributes
    ----------
    costs : ndarray, shape (candidates,), float32
        How implausible a patient each leaves, and how much it had to be bent.
    images : ndarray, shape (candidates, C, *tile), float32
        Those patients.
    """

    costs: Float32Array
    images: Float32Array

    def guess(self, among: Sequence[int] | None = None) -> Guess:
        """The candidate of least cost, of some or all."""
        some = range(len(self.costs)) if among is None else among
        best = min(some, key=lambda candidate: float(self.costs[candidate]))
        return Guess(best, self.images[best].copy())


def registered(
    proxy: Float32Array,
    candidates: Sequence[PreparedCase],
    coefficient: float,
    steps: int,
    warped: bool,
    recolouring: float = 0.0,
) -> Registered:
    """Register all candidates at once.

    Parameters
    ----------
    proxy : ndarray, shape (C, *tile), float32
    candidates : sequence of PreparedCase
        On the tile's grid.
    coefficient : float
    steps : int
        At half the resolution, where there are voxels enough; a third of them at the whole.
    warped : bool
        Whether to look for a warp; intensities are fitted in any case.
    recolouring : float
        What it costs to change intensities: where those of the reference are nearly known, freedom
        to change them takes away of the patient what looks like the reference.
    """
    shown = torch.from_numpy(proxy)[None]
    bases = torch.from_numpy(np.stack([case.image for case in candidates]))
    count, dims = len(bases), proxy.ndim - 1
    matrix = torch.zeros(count, dims, dims + 1, requires_grad=True)
    nodes = torch.zeros(count, dims, *[NODES_PER_AXIS] * dims, requires_grad=True)
    curve = torch.zeros(count, bases.shape[1], KNOTS, requires_grad=True)
    moving = [matrix, nodes, curve] if warped else [curve]
    optimizer = torch.optim.Adam(moving, lr=LEARNING_RATE)
    loss = torch.zeros(count)
    patient = bases
    for image, of_candidates, rounds in _coarse_to_fine(shown, bases, steps):
        for _ in range(rounds):
            moved = _moved(of_candidates, matrix, nodes) if warped else of_candidates
            patient = (image - (1 - coefficient) * _recoloured(moved, curve)) / coefficient
            # What a candidate needs to be bent counts against it.
            loss = _implausible(patient) + SMOOTHNESS * _differences(nodes)
            loss = loss + recolouring * (curve**2).mean(dim=(1, 2))
            optimizer.zero_grad()
            loss.sum().backward()  # type: ignore[no-untyped-call]  # torch
            optimizer.step()
    return Registered(loss.detach().numpy(), patient.detach().clamp(0, 1).numpy())


def _coarse_to_fine(
    image: Tensor, candidates: Tensor, steps: int
) -> list[tuple[Tensor, Tensor, int]]:
    """Mixture and candidates at each resolution, and how many steps to take there."""
    if min(image.shape[2:]) < 2 * LEAST_COARSE_SIDE:
        return [(image, candidates, steps)]
    halved = avg_pool3d if image.ndim == 5 else avg_pool2d
    return [
        (halved(image, 2), halved(candidates, 2), steps),
        (image, candidates, max(1, steps // FINE_PART)),
    ]


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
