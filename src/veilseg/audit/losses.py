"""Statistics of how well a network answers, voxel by voxel: what membership is told by."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from veilseg.audit.scene import Observation
from veilseg.training.examples import one_hot

SMALLEST_PROBABILITY = 1e-6


def all_losses(
    groups: Sequence[list[list[Observation]]], coefficient: float
) -> dict[str, NDArray[np.float64]]:
    """Each statistic of each candidate's loss maps, mean over draws."""
    maps = [
        [[_loss_map(one, coefficient) for one in of_case] for of_case in zip(*group, strict=True)]
        for group in groups
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


def _loss_map(
    one: Observation, coefficient: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Cross-entropy of one answer, voxel by voxel, and where the candidate has a structure."""
    classes = len(one.answer)
    labels = one.labels if one.shown_labels is None else one.shown_labels
    target = one_hot(labels, classes)
    if one.reference_labels is not None:
        reference = one_hot(one.reference_labels, classes)
        target = coefficient * target + (1 - coefficient) * reference
    log = np.log(np.maximum(one.answer, SMALLEST_PROBABILITY))
    return np.asarray(-(target * log).sum(axis=0), dtype=np.float64), labels > 0


def _in_structures(losses: NDArray[np.float64], structure: NDArray[np.bool_]) -> float:
    return float(losses[structure].mean()) if structure.any() else float(losses.mean())


STATISTICS: dict[str, Callable[[NDArray[np.float64], NDArray[np.bool_]], float]] = {
    "mean": lambda losses, _: float(losses.mean()),
    "mean in structures": _in_structures,
    "worst hundredth": lambda losses, _: float(np.percentile(losses, 99)),
}
