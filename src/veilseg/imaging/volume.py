"""Images with their place in the patient: ``Volume`` and ``Geometry``.

Convention: arrays are (C, X, Y, Z) or, in 2D, (C, X, Y). World coordinates are RAS+ in
millimetres, as in NIfTI, with voxel (i, j, k) of every channel at ``affine @ (i, j, k, 1)``; k is 0
in 2D. Where a file says nothing of millimetres, as PNG, the unit is the pixel: the affine is the
identity, X counts columns from the left and Y rows from the top.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from veilseg.errors import GeometryMismatch, InvalidImage
from veilseg.payload import Float32Array

Unit = Literal["mm", "pixel"]

# A voxel axis shorter than this is no axis: the affine cannot be inverted reliably.
SMALLEST_SPACING_MM = 1e-3
# Smallest size of the cell that the unit direction vectors span; sheared further, a grid is nearly
# flat.
SMALLEST_DIRECTION_DETERMINANT = 1e-2


@dataclass(frozen=True)
class Geometry:
    """A grid in patient space, without its pixels: all a site must keep to place a result.

    Attributes
    ----------
    shape : (X, Y, Z) or (X, Y)
    affine : ndarray, shape (4, 4), float64
        Voxel index to RAS+ millimetres; the identity where the unit is the pixel.
    unit : "mm" or "pixel"
        What spacings and distances on this grid are measured in.
    third_axis : bool
        A 2D NIfTI file has a third axis of length one; results are written with one, too.
    sized : bool
        Whether the file says how large a voxel is; a volume that does not is taken for 1 mm.
    """

    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    unit: Unit = "mm"
    third_axis: bool = False
    sized: bool = True

    @property
    def ndim(self) -> int:
        """2 or 3."""
        return len(self.shape)

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Distance between neighbours along each array axis; 1 where the unit is the pixel."""
        return tuple(float(length) for length in np.linalg.norm(self._axes, axis=0))

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel of a 3D grid in millilitres."""
        return _cell(self._axes) / 1000.0

    @property
    def pixel_area(self) -> float:
        """Area of one pixel of a 2D grid in mm²; 1 where the unit is the pixel."""
        return _cell(self._axes)

    @property
    def _axes(self) -> NDArray[np.float64]:
        """Steps in space along the array axes, as columns."""
        return self.affine[:3, : self.ndim]

    def require_usable(self, name: str) -> None:
        """Refuse an affine that does not place voxels in space.

        Raises
        ------
        InvalidImage
            If it is not finite, singular, or so sheared that the grid is nearly flat.
        """
        if not np.isfinite(self.affine).all():
            raise InvalidImage(f"{name}: affine: holds NaN or infinity")
        lengths = np.linalg.norm(self._axes, axis=0)
        if lengths.min() < SMALLEST_SPACING_MM:
            raise InvalidImage(f"{name}: affine: singular (a voxel axis has no length)")
        if _cell(self._axes / lengths) < SMALLEST_DIRECTION_DETERMINANT:
            where = "in one plane" if self.ndim == 3 else "on one line"
            raise InvalidImage(f"{name}: affine: singular (voxel axes lie {where})")


def _cell(axes: NDArray[np.float64]) -> float:
    """Volume or area that two or three vectors span: the root of Gram's determinant."""
    return float(np.sqrt(max(0.0, np.linalg.det(axes.T @ axes))))


@dataclass(frozen=True)
class Volume:
    """Intensities on a grid.

    Attributes
    ----------
    array : ndarray, shape (C, X, Y, Z) or (C, X, Y), float32
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
    array : ndarray, shape (X, Y, Z) or (X, Y), uint8
    geometry : Geometry
    """

    array: NDArray[np.uint8]
    geometry: Geometry

    def __post_init__(self) -> None:
        if self.array.shape != self.geometry.shape:
            raise GeometryMismatch(
                f"labels of shape {self.array.shape} on a grid of shape {self.geometry.shape}"
            )
