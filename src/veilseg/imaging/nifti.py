"""NIfTI in and out. The only place that imports nibabel."""

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from veilseg.errors import GeometryMismatch, InvalidImage, OutputNotWritable
from veilseg.files import written_whole
from veilseg.imaging.volume import Geometry, LabelMap, Volume
from veilseg.payload import Float32Array

# Two channels or an image and its labels may differ by rounding of their headers, no more.
SAME_GRID_TOLERANCE_MM = 1e-2


def read_image(channels: Sequence[Path]) -> Volume:
    """Read one 3D image, one file per channel.

    Parameters
    ----------
    channels : sequence of Path
        NIfTI files on one grid, in the order of the bundle's channels.

    Returns
    -------
    Volume
        array of shape (C, X, Y, Z), float32, in the file's own orientation.

    Raises
    ------
    InvalidImage
        If a file is missing, no NIfTI, truncated, not 3D, holds NaN or infinity, is constant,
        or has a singular affine.
    GeometryMismatch
        If the channels lie on different grids.
    """
    arrays: list[Float32Array] = []
    geometry: Geometry | None = None
    for path in channels:
        raw, found = _read(path)
        with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused
            array = raw.astype(np.float32)
        if not np.isfinite(array).all():
            raise InvalidImage(f"{path}: holds NaN or infinite intensities")
        if array.min() == array.max():
            raise InvalidImage(f"{path}: is constant: every voxel is {array.flat[0]:g}")
        if geometry is None:
            geometry = found
        require_same_grid(geometry, found, str(channels[0]), str(path))
        arrays.append(array)
    if geometry is None:
        raise InvalidImage("no image file given")
    return Volume(np.stack(arrays), geometry)


def read_label_map(path: Path) -> LabelMap:
    """Read integer labels.

    Raises
    ------
    InvalidImage
        As :func:`read_image`, and if values are not integers in 0…255.
    """
    raw, geometry = _read(path)
    labels = np.asarray(raw)
    if not np.isfinite(labels).all() or labels.min() < 0 or labels.max() > 255:
        raise InvalidImage(f"{path}: labels must be integers in 0…255")
    rounded = labels.astype(np.uint8)
    if not np.array_equal(rounded, labels):
        raise InvalidImage(f"{path}: labels must be integers in 0…255")
    return LabelMap(rounded, geometry)


def write_label_map(path: Path, labels: LabelMap) -> None:
    """Write labels as uint8 NIfTI, whole or not at all.

    Raises
    ------
    OutputNotWritable
        If the folder is missing or takes no file, or the name does not end in .nii or .nii.gz.
    """
    _write(path, labels.array, labels.geometry.affine)


def write_array(path: Path, array: Float32Array) -> None:
    """Write one array of shape (C, X, Y, Z) with an identity affine and a blank header."""
    _write(path, np.moveaxis(array, 0, -1), np.eye(4))


def require_same_grid(first: Geometry, second: Geometry, name: str, other: str) -> None:
    """Raise GeometryMismatch unless both grids place their voxels alike."""
    if first.shape != second.shape:
        raise GeometryMismatch(
            f"{other}: shape {second.shape} differs from {first.shape} of {name}"
        )
    corner = np.array([*first.shape, 1.0])
    apart = np.abs((first.affine - second.affine) @ corner).max()
    apart = max(apart, float(np.abs(first.affine - second.affine).max()))
    if apart > SAME_GRID_TOLERANCE_MM:
        raise GeometryMismatch(f"{other}: lies {apart:.2g} mm off the grid of {name}")


def _read(path: Path) -> tuple[NDArray[Any], Geometry]:
    if not path.is_file():
        raise InvalidImage(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    try:
        image = nib.load(path)
        array = np.asanyarray(image.dataobj)  # type: ignore[attr-defined]  # nibabel types load() too widely
        affine = np.asarray(image.affine, dtype=np.float64)  # type: ignore[attr-defined]  # ditto
        _require_whole_gzip(path)
    except (ImageFileError, HeaderDataError) as error:
        raise InvalidImage(f"{path}: not a NIfTI image: {_one_line(error)}") from error
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InvalidImage(f"{path}: damaged or truncated: {_one_line(error)}") from error
    # Trailing axes of length one are common in 3D exports and carry nothing.
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 3:
        raise InvalidImage(f"{path}: is {array.ndim}D of shape {array.shape}; 3D is expected")
    if array.dtype.kind not in "uif":
        raise InvalidImage(f"{path}: voxels of type {array.dtype} are not intensities")
    if min(array.shape) == 0:
        raise InvalidImage(f"{path}: has no voxels")
    geometry = Geometry(tuple(array.shape), affine)
    geometry.require_usable(str(path))
    return array, geometry


def _write(path: Path, array: NDArray[Any], affine: NDArray[np.float64]) -> None:
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise OutputNotWritable(f"{path}: cannot be written: the name must end in .nii or .nii.gz")
    with written_whole(path) as temporary:
        image = nib.Nifti1Image(array, affine)
        image.header.set_xyzt_units("mm")
        nib.save(image, temporary)


def _require_whole_gzip(path: Path) -> None:
    """Read to the end, where the checksum is: nibabel stops before it and misses damage."""
    if path.suffix.lower() == ".gz":
        with gzip.open(path) as stream:
            while stream.read(1 << 20):
                pass


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
