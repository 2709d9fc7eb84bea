"""NIfTI in and out."""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from veilseg.errors import InvalidImage, OutputNotWritable
from veilseg.files import written_whole
from veilseg.imaging.checks import (
    as_label_map,
    one_line,
    require_file,
    require_fitting,
    stacked,
)
from veilseg.imaging.volume import Geometry, LabelMap, Unit, Volume
from veilseg.payload import Float32Array

ENDINGS = (".nii.gz", ".nii")
GZIP_MAGIC = b"\x1f\x8b"
# As nibabel: label maps shrink a hundredfold at the fastest level, and no other gains much.
COMPRESSION_LEVEL = 1


def read_image(files: Sequence[Path]) -> Volume:
    """Read one image, 2D or 3D, one file per channel.

    Parameters
    ----------
    files : sequence of Path
        NIfTI files on one grid, in the order of the bundle's channels.

    Returns
    -------
    Volume
        array of shape (C, X, Y, Z) or (C, X, Y), float32, in the file's own orientation.

    Raises
    ------
    InvalidImage
        If a file is missing, no NIfTI, truncated, neither 2D nor 3D, too large for memory, holds
        NaN or infinity, is constant, or has a singular affine.
    GeometryMismatch
        If the channels lie on different grids.
    """
    return stacked(files, _read)


def read_label_map(path: Path) -> LabelMap:
    """Read integer labels.

    Raises
    ------
    InvalidImage
        As :func:`read_image`, and if values are not integers in 0…255.
    """
    return as_label_map(path, *_read(path))


def read_header(path: Path) -> tuple[int, Geometry]:
    """Number of channels, always 1, and grid of a file, without its voxels.

    Raises
    ------
    InvalidImage
        As :func:`read_image`, as far as the header tells.
    """
    with _opened(path) as (_, header):
        return 1, _geometry(header, path)


def write_label_map(path: Path, labels: LabelMap) -> None:
    """Write labels as uint8 NIfTI, whole or not at all, with as many axes as the image has.

    Raises
    ------
    OutputNotWritable
        If the folder is missing or takes no file, the disk is full, or the name does not end in
        .nii or .nii.gz.
    """
    _write_on(labels.geometry, path, labels.array)


def write_map(path: Path, values: Float32Array, geometry: Geometry) -> None:
    """Write values in [0, 1] on an image's grid as float32.

    Raises
    ------
    OutputNotWritable
        As :func:`write_label_map`.
    """
    _write_on(geometry, path, values.astype(np.float32))


def write_array(path: Path, array: Float32Array) -> None:
    """Write one array with an identity affine and a blank header, channels as the last axis.

    Parameters
    ----------
    path : Path
    array : ndarray, shape (C, X, Y, Z) or (C, X, Y), float32

    Raises
    ------
    OutputNotWritable
        As :func:`write_label_map`.
    """
    _write(path, np.moveaxis(array, 0, -1), np.eye(4))


def _read(path: Path) -> tuple[NDArray[Any], Geometry]:
    with _opened(path) as (stream, header):
        geometry = _geometry(header, path)
        array = np.asarray(header.data_from_fileobj(stream))
        # To the end, where gzip has its checksum: damage would be missed before.
        while stream.read(1 << 20):
            pass
    return array.reshape((1, *geometry.shape), order="F"), geometry


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], Any]]:
    """A file, decompressed as it is read, and its header. Whatever goes wrong names the file."""
    require_file(path)
    try:
        with path.open("rb") as raw:
            compressed = raw.read(2) == GZIP_MAGIC
            raw.seek(0)
            stream: Any = gzip.GzipFile(fileobj=raw) if compressed else raw
            kind = _header_class(stream.read(348), path)
            stream.seek(0)
            yield stream, kind.from_fileobj(stream)
    except (ImageFileError, HeaderDataError, WrapStructError) as error:
        raise InvalidImage(f"{path}: not a NIfTI image: {one_line(error)}") from error
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InvalidImage(f"{path}: damaged or truncated: {one_line(error)}") from error


def _header_class(start: bytes, path: Path) -> Any:
    if start[344:347] == b"n+1":
        return nib.Nifti1Header
    if start[4:7] == b"n+2":
        return nib.Nifti2Header
    raise InvalidImage(f"{path}: not a NIfTI image")


def _geometry(header: Any, path: Path) -> Geometry:
    shape = tuple(int(size) for size in header.get_data_shape())
    dtype = header.get_data_dtype()
    # Trailing axes of length one are common in exports and carry nothing.
    kept = shape
    while len(kept) > 2 and kept[-1] == 1:
        kept = kept[:-1]
    if len(kept) not in (2, 3):
        raise InvalidImage(f"{path}: is {len(kept)}D of shape {kept}; 2D or 3D is expected")
    if dtype.kind not in "uif":
        raise InvalidImage(f"{path}: voxels of type {dtype} are not intensities")
    require_fitting(kept, str(path))
    affine = np.array(header.get_best_affine(), dtype=np.float64)
    if len(kept) == 2 and not affine[:3, 2].any():
        # A slice without thickness: no affine could be inverted, nor written by nibabel.
        affine[:3, 2] = np.cross(affine[:3, 0], affine[:3, 1])
    sized = _states_size(header)
    unit: Unit = "mm"
    if len(kept) == 2 and not sized:
        # As a PNG: pixels of unknown size in a place unknown.
        affine, unit = np.eye(4), "pixel"
    third_axis = len(kept) == 2 and len(shape) > 2
    geometry = Geometry(kept, affine, unit, third_axis, sized)
    geometry.require_usable(str(path))
    return geometry


def _states_size(header: Any) -> bool:
    """Whether a header says anything of where voxels lie, how large they are or in what unit."""
    placed = int(header["qform_code"]) > 0 or int(header["sform_code"]) > 0
    sizes = np.asarray(header["pixdim"])[1:4]
    return placed or header.get_xyzt_units()[0] != "unknown" or not np.isin(sizes, (0, 1)).all()


def _write_on(geometry: Geometry, path: Path, array: NDArray[Any]) -> None:
    placed = geometry.sized and geometry.unit == "mm"
    affine = geometry.affine if placed else None
    _write(path, array[..., None] if geometry.third_axis else array, affine)


def _write(path: Path, array: NDArray[Any], affine: NDArray[np.float64] | None) -> None:
    """Without an affine, the file says nothing of size and place, as the image's did not."""
    if not path.name.lower().endswith(ENDINGS):
        raise OutputNotWritable(f"{path}: cannot be written: the name must end in .nii or .nii.gz")
    with written_whole(path) as temporary:
        image = nib.Nifti1Image(array, affine)
        if affine is not None:
            image.header.set_xyzt_units("mm")
        content = image.to_bytes()
        if path.name.lower().endswith(".gz"):
            # Without a time, equal results are equal files.
            content = gzip.compress(content, COMPRESSION_LEVEL, mtime=0)
        temporary.write_bytes(content)
