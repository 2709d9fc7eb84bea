"""Distances between the surfaces of two label maps, in millimetres: MONAI's metrics.

Torch is imported when a distance is asked for, not with this module.
"""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veilseg.errors import GeometryMismatch, MissingDependency

HAUSDORFF_PERCENTILE = 95.0
# Surfaces that lie within this count as agreeing: about a voxel of the usual T1 image, and what
# two raters differ by. A bundle with coarser voxels is judged by the same millimetre.
DEFAULT_TOLERANCE_MM = 1.0


def hd95_mm(
    predicted: NDArray[np.integer],
    truth: NDArray[np.integer],
    classes: int,
    spacing_mm: tuple[float, ...],
) -> tuple[float, ...]:
    """95th percentile Hausdorff distance of each foreground class.

    The larger of the two directed 95th percentiles, over surface voxels; the image border counts
    as surface.

    Parameters
    ----------
    predicted, truth : ndarray of int, shape (X, Y, Z) or (X, Y)
        Label maps on one grid.
    classes : int
        Including background.
    spacing_mm : tuple of float
        Along the arrays' axes.

    Returns
    -------
    tuple of float
        For labels 1 … classes − 1. NaN where a class is absent from either map: there is no
        distance to nothing. Such a miss shows in Dice and surface Dice, which are 0 then.

    Raises
    ------
    GeometryMismatch
        If the shapes differ, or the spacing is of another dimension.
    MissingDependency
        If torch or MONAI is not installed.
    """
    metrics, torch = _monai()
    scores = []
    for found, wanted in _masks(predicted, truth, classes, spacing_mm):
        if not (found.any() and wanted.any()):
            scores.append(float("nan"))
            continue
        with _without_monai_warning():
            distance = metrics.compute_hausdorff_distance(
                torch.from_numpy(found[None, None]),
                torch.from_numpy(wanted[None, None]),
                include_background=True,  # the one channel is the class
                percentile=HAUSDORFF_PERCENTILE,
                spacing=list(spacing_mm),
            )
        scores.append(float(distance))
    return tuple(scores)


def surface_dice(
    predicted: NDArray[np.integer],
    truth: NDArray[np.integer],
    classes: int,
    spacing_mm: tuple[float, ...],
    tolerance_mm: float = DEFAULT_TOLERANCE_MM,
) -> tuple[float, ...]:
    """Normalised surface Dice: the share of both surfaces that lies within a tolerance.

    Surface elements are weighed by their area, so that anisotropic voxels do not distort it.

    Parameters
    ----------
    predicted, truth, classes, spacing_mm
        As for :func:`hd95_mm`.
    tolerance_mm : float

    Returns
    -------
    tuple of float in [0, 1]
        For labels 1 … classes − 1. 0 where a class is in one map only, NaN where it is in neither.

    Raises
    ------
    GeometryMismatch, MissingDependency
        As :func:`hd95_mm`.

    References
    ----------
    Nikolov et al. 2018, arXiv:1809.04430.
    """
    metrics, torch = _monai()
    scores = []
    for found, wanted in _masks(predicted, truth, classes, spacing_mm):
        if not (found.any() and wanted.any()):
            scores.append(0.0 if found.any() or wanted.any() else float("nan"))
            continue
        with _without_monai_warning():
            share = metrics.compute_surface_dice(
                torch.from_numpy(found[None, None]),
                torch.from_numpy(wanted[None, None]),
                class_thresholds=[tolerance_mm],
                include_background=True,
                spacing=list(spacing_mm),
                use_subvoxels=True,
            )
        scores.append(float(share))
    return tuple(scores)


def _masks(
    predicted: NDArray[np.integer],
    truth: NDArray[np.integer],
    classes: int,
    spacing_mm: tuple[float, ...],
) -> list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    if predicted.shape != truth.shape:
        raise GeometryMismatch(
            f"predicted labels of shape {predicted.shape} for a truth of {truth.shape}"
        )
    if len(spacing_mm) != truth.ndim:
        raise GeometryMismatch(f"spacing_mm: {spacing_mm} for label maps of shape {truth.shape}")
    return [(predicted == value, truth == value) for value in range(1, classes)]


@contextlib.contextmanager
def _without_monai_warning() -> Iterator[None]:
    """MONAI 1.6 warns of an argument that is deprecated and that it passes to itself."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
        yield


def _monai() -> tuple[Any, Any]:
    try:
        import torch
        from monai import metrics
    except ImportError as error:
        raise MissingDependency(
            f"surface distances need torch and MONAI: pip install 'veilseg[train]' ({error})"
        ) from error
    return metrics, torch
