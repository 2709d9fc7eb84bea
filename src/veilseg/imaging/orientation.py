"""Axes of a file and axes of the patient: which runs where, there and back."""

from typing import TypeVar

import numpy as np
from nibabel.orientations import apply_orientation, io_orientation, ornt_transform
from numpy.typing import NDArray

from veilseg.imaging.volume import Geometry

Number = TypeVar("Number", int, float)
Scalar = TypeVar("Scalar", bound=np.generic)
RAS = np.array([[0.0, 1], [1, 1], [2, 1]])


def orientation_of(geometry: Geometry) -> NDArray[np.float64]:
    """Nibabel orientation, shape (3, 2) or (2, 2), that turns the axes of a file into RAS+.

    The two axes of a slice come in the order of RAS: a sagittal one has anterior, then superior.
    A grid in pixels stays as it is.
    """
    if geometry.unit == "pixel":
        return RAS[: geometry.ndim]
    found = np.asarray(io_orientation(geometry.affine[:, [*range(geometry.ndim), 3]]))
    found[:, 0] = found[:, 0].argsort().argsort()
    return found


def to_ras(array: NDArray[Scalar], orientation: NDArray[np.float64]) -> NDArray[Scalar]:
    """Flip and transpose an array of the file's axes."""
    return np.asarray(apply_orientation(array, orientation))


def from_ras(array: NDArray[Scalar], orientation: NDArray[np.float64]) -> NDArray[Scalar]:
    """Undo :func:`to_ras`."""
    inverse = ornt_transform(RAS[: len(orientation)], orientation)
    return np.ascontiguousarray(apply_orientation(array, inverse))


def in_ras_order(
    values: tuple[Number, ...], orientation: NDArray[np.float64]
) -> tuple[Number, ...]:
    """Per-axis values of the file in the order of the RAS+ axes."""
    ordered = list(values)
    for source, (target, _) in enumerate(orientation):
        ordered[int(target)] = values[source]
    return tuple(ordered)


def ras_spacing_mm(geometry: Geometry) -> tuple[float, ...]:
    """Spacing along the axes in the order of RAS; 1 where the unit is the pixel."""
    return in_ras_order(geometry.spacing_mm, orientation_of(geometry))
