"""Dice overlap of two label maps. NumPy only: the demo measures without torch."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from veilseg.errors import GeometryMismatch


def dice_per_class(
    predicted: NDArray[np.integer], truth: NDArray[np.integer], classes: int
) -> tuple[float, ...]:
    """Dice of each foreground class, ``2·|P ∩ T| / (|P| + |T|)``.

    A class that is absent

    - from both maps is NaN and left out of means, as in MONAI's ``DiceMetric(ignore_empty=True)``:
      it says nothing (with ``ignore_empty=False`` MONAI has 1)
    - from the truth but predicted is 0, as with ``ignore_empty=False``: a false alarm counts (with
      ``ignore_empty=True`` MONAI leaves it out)
    - from the prediction alone is 0

    Parameters
    ----------
    predicted, truth : ndarray of int, shape (X, Y, Z) or (X, Y)
        Label maps on one grid.
    classes : int
        Including background.

    Returns
    -------
    tuple of float
        For labels 1 … classes − 1, in order.

    Raises
    ------
    GeometryMismatch
        If the shapes differ.
    """
    if predicted.shape != truth.shape:
        raise GeometryMismatch(
            f"predicted labels of shape {predicted.shape} for a truth of {truth.shape}"
        )
    scores = []
    for value in range(1, classes):
        found, wanted = predicted == value, truth == value
        voxels = np.count_nonzero(found) + np.count_nonzero(wanted)
        overlap = np.count_nonzero(found & wanted)
        scores.append(2 * overlap / voxels if voxels else float("nan"))
    return tuple(scores)


def mean_foreground(scores: Sequence[float]) -> float:
    """Mean over what is defined; NaN if nothing is.

    Of one case's classes it gives the case's Dice, of many cases' Dice that of a data set.
    """
    defined = [score for score in scores if not np.isnan(score)]
    return float(np.mean(defined)) if defined else float("nan")


def side_by_side(
    first: Sequence[float], second: Sequence[float]
) -> tuple[list[float], list[float]]:
    """Dice of two networks, to be compared image by image.

    An image that one of them rightly leaves empty (NaN) counts as 1 where the other has a value:
    left out, it would hide the other's false alarm.

    Parameters
    ----------
    first, second : sequence of float
        Of the same images.
    """
    values = np.array([first, second], dtype=np.float64)
    rightly_empty = np.isnan(values) & ~np.isnan(values).all(axis=0)
    values[rightly_empty] = 1.0
    one, other = values.tolist()
    return one, other
