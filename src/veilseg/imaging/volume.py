"""Images with their place in the patient: ``Volume`` and ``Geometry``.

Convention: world coordinates are RAS+ in millimetres, as in NIfTI; arrays are (C, X, Y, Z)
with voxel (i, j, k) of every channel at ``affine @ (i, j, k, 1)``.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veilseg.errors import GeometryMismatch, InvalidImage
from veilseg.payload import Float32Array

# A voxel axis shorter than this is no axis: the affine cannot be inverted reliably.
SMALLEST_SPACING_MM = 1e-3
# Smallest |determinant| of the unit direction vectors; sheared further, a grid is nearly flat.
SMALLEST_DIRECTION_DETERMINANT = 1e-2


@dataclass(frozen=True)
class Geometry:
    """A grid in patient space, without its pixels: all a site must keep to place a result.

    Attributes
    ----------
    shape : (X, Y, Z)
    affine : ndarray, shape (4, 4), float64
        Voxel index to RAS+ millimetres.
    """

    shape: tuple[int, ...]
    affine: NDArray[np.float64]

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Distance between neighbouring voxels along each array axis."""
        return tuple(float(length) for length in np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    def require_usable(self, name: str) -> None:
        """Refuse an affine that does not place voxels in space.

        Raises
        ------
        InvalidImage
            If it is not finite, singular, or so sheared that the grid is nearly flat.
        """
        if not np.isfinite(self.affine).all():
            raise InvalidImage(f"{name}: affine: holds NaN or infinity")
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        if lengths.min() < SMALLEST_SPACING_MM:
            raise InvalidImage(f"{name}: affine: singular (a voxel axis has no length)")
        if abs(np.linalg.det(self.affine[:3, :3] / lengths)) < SMALLEST_DIRECTION_DETERMINANT:
            raise InvalidImage(f"{name}: affine: singular (voxel axes lie in one plane)")


@dataclass(frozen=True)
class Volume:
    """Intensities on a grid.

    Attributes
    ----------
    array : ndarray, shape (C, X, Y, Z), float32
    geometry : Geometry
    """

    array: Float32Array
    geometry: Geometry

    def __post_init__(self) -> None:
        if self.array.shape[1:] != self.geometry.shape:
            raise GeometryMismatch(
                f"array of shape {self.array.shape[1:]} on a grid of shape {self.geometry.shape}"
            )


@dataclass(frozen=True)
class LabelMap:
    """Integer classes on a grid.

    Attributes
    ----------
    array : ndarray, shape (X, Y, Z), uint8
    geometry : Geometry
    """

    array: NDArray[np.uint8]
    geometry: Geometry

    def __post_init__(self) -> None:
        if self.array.shape != self.geometry.shape:
            raise GeometryMismatch(
                f"labels of shape {self.array.shape} on a grid of shape {self.geometry.shape}"
            )
