"""Masks read off answers without any training, and answers that say less."""

from itertools import product

import numpy as np
from numpy.typing import NDArray

from veilseg.payload import Float32Array
from veilseg.training.examples import one_hot

Labels = NDArray[np.uint8]
LEVELS = 4


def read_off(answer: Float32Array, coefficient: float) -> Labels:
    """The patient's labels, read off an answer without any training.

    Each voxel of a segmentation mixture is ``a·e_k + (1 − a)·e_j`` for the patient's class k and
    the reference's j; the nearest of the K² possibilities names k. At a = ½ the two classes cannot
    be told apart, and the higher label is taken: the union of both masks.

    Parameters
    ----------
    answer : ndarray, shape (K, *tile), float32
    coefficient : float in (0, 1]

    Returns
    -------
    ndarray, shape tile, uint8
    """
    classes = len(answer)
    unit = np.eye(classes, dtype=np.float32)
    nearest = np.full(answer.shape[1:], np.inf, dtype=np.float32)
    labels = np.zeros(answer.shape[1:], dtype=np.uint8)
    # From the highest class down: of equally near ones the first stays.
    for patient, reference in product(reversed(range(classes)), range(classes)):
        level = coefficient * unit[patient] + (1 - coefficient) * unit[reference]
        distance = ((answer - level.reshape(-1, *[1] * (answer.ndim - 1))) ** 2).sum(axis=0)
        closer = distance < nearest - 1e-6
        labels[closer] = patient
        nearest[closer] = distance[closer]
    return labels


def strongest_class(answer: Float32Array) -> Float32Array:
    """1 for the strongest class of each voxel, 0 for the others."""
    return one_hot(strongest(answer), len(answer))


def rounded_answer(answer: Float32Array) -> Float32Array:
    """Probabilities in quarters."""
    return np.asarray(np.round(answer * LEVELS) / LEVELS, dtype=np.float32)


def unchanged(answer: Float32Array) -> Float32Array:
    return answer


COARSE = {"strongest class only": strongest_class, "probabilities in quarters": rounded_answer}


def strongest(maps: Float32Array) -> Labels:
    """The strongest class of each voxel: (K, *tile) to tile."""
    return np.asarray(maps.argmax(axis=0), dtype=np.uint8)
