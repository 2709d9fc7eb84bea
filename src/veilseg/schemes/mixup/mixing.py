"""The mixing itself and its algebraic inverse."""

import numpy as np
from numpy.random import Generator

from veilseg.errors import GeometryMismatch
from veilseg.payload import Float32Array
from veilseg.schemes.references import Reference, fill_background, with_contrast


def mix(
    patient_image: Float32Array, reference: Reference, mixing_coefficient: float, rng: Generator
) -> tuple[Float32Array, Reference]:
    """Mix a patient image with a reference image.

    Computes ``a * patient + (1 - a) * reference``, after both backgrounds were filled by one
    rule and the reference was given at least 0.8 of the patient's contrast.

    Parameters
    ----------
    patient_image : ndarray, shape (C, X, Y, Z), float32
        Intensity in [0, 1], exactly 0 where empty.
    reference : Reference
        On the same grid, background not yet filled.
    mixing_coefficient : float in (0, 1)
        Weight of the patient image.
    rng : Generator
        Of the fills. Stays at the site, like the reference.

    Returns
    -------
    mixture : ndarray, shape (C, X, Y, Z), float32
    reference : Reference
        As it was mixed: stretched and filled.

    Raises
    ------
    GeometryMismatch
        If the shapes differ.

    Leaks
    -----
    To the server: the mixture. Two mixtures of one pair with different coefficients determine
    both images; whoever knows the reference has the patient.

    References
    ----------
    Kim et al., IPMI 2023, arXiv:2305.13756.
    """
    if patient_image.shape != reference.image.shape:
        raise GeometryMismatch(
            f"reference of shape {reference.image.shape} for an image of {patient_image.shape}"
        )
    reference = with_contrast(reference, patient_image)
    filled = Reference(fill_background(reference.image, rng), reference.labels)
    patient = fill_background(patient_image, rng)
    a = np.float32(mixing_coefficient)
    mixture = a * patient
    mixture += (1 - a) * filled.image
    return mixture, filled


def unmix_algebraically(
    answer: Float32Array, reference_labels: Float32Array, mixing_coefficient: float
) -> Float32Array:
    """Revert the mixing of segmentation maps by algebra: ``(m̂ − (1 − a)·y_r) / a``.

    Parameters
    ----------
    answer : ndarray, shape (K, X, Y, Z), float32
        The server's segmentation mixture.
    reference_labels : ndarray, shape (K, X, Y, Z), float32
        One-hot.
    mixing_coefficient : float in (0, 1)

    Returns
    -------
    ndarray, shape (K, X, Y, Z), float32
        Clipped to [0, 1] and scaled to sum to one per voxel.

    Raises
    ------
    GeometryMismatch
        If the shapes differ.

    Leaks
    -----
    Nothing: it runs at the site.
    """
    if answer.shape != reference_labels.shape:
        raise GeometryMismatch(
            f"answer of shape {answer.shape} for reference labels of {reference_labels.shape}"
        )
    a = np.float32(mixing_coefficient)
    maps = np.clip((answer - (1 - a) * reference_labels) / a, 0, 1)
    total = maps.sum(axis=0, keepdims=True)
    # A server that denies the reference's label everywhere leaves nothing: fall back to its answer.
    return np.where(total > 0, maps / np.maximum(total, 1e-6), answer).astype(np.float32)


def price_of_averaging(mixtures: int) -> str:
    """What several mixtures of one image tell the server, in words (method.md §5)."""
    return (
        f"{mixtures} different proxies of this subject let the server average references away: at "
        f"a = ½, under ideal conditions, at most 1/{mixtures + 1} of the patient's variance stays "
        "hidden instead of 1/2"
    )
