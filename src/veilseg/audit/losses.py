"""Statistics of how well a network answers, place by place: what membership is told by."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from veilseg.audit.scene import Observation
from veilseg.payload import Float32Array
from veilseg.training.examples import one_hot

SMALLEST_PROBABILITY = 1e-6

# Of an answer, at each voxel or token; and where the candidate has a structure.
LossMap = tuple[NDArray[np.float64], NDArray[np.bool_]]


def all_losses(
    groups: Sequence[list[list[Observation]]], loss: Callable[[Observation], LossMap]
) -> dict[str, NDArray[np.float64]]:
    """Each statistic of each candidate's loss maps, mean over draws."""
    maps = [
        [[loss(one) for one in of_case] for of_case in zip(*group, strict=True)] for group in groups
    ]
    return {
        name: np.array(
            [
                np.mean([statistic(*drawn) for drawn in of_case])
                for group in maps
                for of_case in group
            ]
        )
        for name, statistic in STATISTICS.items()
    }


def of_voxels(one: Observation, coefficient: float) -> LossMap:
    """Cross-entropy of one answer, voxel by voxel."""
    classes = len(one.answer)
    labels = one.labels if one.shown_labels is None else one.shown_labels
    target = one_hot(labels, classes)
    if one.reference_labels is not None:
        reference = one_hot(one.reference_labels, classes)
        target = coefficient * target + (1 - coefficient) * reference
    log = np.log(np.maximum(one.answer, SMALLEST_PROBABILITY))
    return np.asarray(-(target * log).sum(axis=0), dtype=np.float64), labels > 0


def of_tokens(
    found: Sequence[Float32Array],
    wanted: Sequence[Float32Array],
    inside: Sequence[NDArray[np.bool_]],
) -> LossMap:
    """Root mean square of the differences of tokens, (tokens, channels) per level."""
    sizes = [
        np.sqrt(np.square(one - other, dtype=np.float64).mean(axis=1))
        for one, other in zip(found, wanted, strict=True)
    ]
    return np.concatenate(sizes), np.concatenate(inside)


def _in_structures(losses: NDArray[np.float64], structure: NDArray[np.bool_]) -> float:
    return float(losses[structure].mean()) if structure.any() else float(losses.mean())


STATISTICS: dict[str, Callable[[NDArray[np.float64], NDArray[np.bool_]], float]] = {
    "mean": lambda losses, _: float(losses.mean()),
    "mean in structures": _in_structures,
    "worst hundredth": lambda losses, _: float(np.percentile(losses, 99)),
}
