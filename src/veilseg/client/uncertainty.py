"""How unsure a segmentation is of each voxel."""

import numpy as np
from scipy.special import entr

from veilseg.payload import Float32Array


def distribution(probabilities: Float32Array) -> Float32Array:
    """Class probabilities that are none quite (rounded on the wire, or by algebra) made so.

    Parameters
    ----------
    probabilities : ndarray, shape (K, …), float32

    Returns
    -------
    ndarray, shape (K, …), float32
        Not negative, sums to one. Where nothing speaks for any class, all are alike.
    """
    weights = np.maximum(probabilities, 0)
    total = weights.sum(axis=0)
    alike = np.float32(1 / len(weights))
    return np.where(total > 0, weights / np.where(total > 0, total, 1), alike)


def predictive_entropy(probabilities: Float32Array) -> Float32Array:
    """Entropy of the class probabilities over that of no knowledge, log K.

    Parameters
    ----------
    probabilities : ndarray, shape (K, …), float32
        K ≥ 2.

    Returns
    -------
    ndarray, shape (…), float32
        0 where one class is certain, 1 where all are alike.
    """
    entropy = entr(distribution(probabilities)).sum(axis=0) / np.log(len(probabilities))
    return np.asarray(np.clip(entropy, 0, 1), dtype=np.float32)
