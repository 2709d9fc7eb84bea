"""DICOM in and out: series of slices in, segmentations out. Needs ``pip install 'veilseg[dicom]'``.

Nothing of a header gets further than a :class:`Volume`: the array and its place in space. Whose
image it is, for the site's own ledger and lists, is an :class:`Identity` and asked for by itself.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from numpy.typing import NDArray

from veilseg.errors import GeometryMismatch, OutputNotWritable
from veilseg.imaging.checks import stacked
from veilseg.imaging.dicom_files import identity_of
from veilseg.imaging.dicom_segmentation import (
    read_segmentation,
    require_source,
    write_segmentation,
)
from veilseg.imaging.dicom_series import intensities, read_series
from veilseg.imaging.volume import Geometry, LabelMap, Volume
from veilseg.payload import Float32Array

__all__ = [
    "identity_of",
    "read_header",
    "read_image",
    "read_label_map",
    "require_source",
    "write_label_map",
    "write_map",
    "write_segmentation",
]


def read_image(files: Sequence[Path]) -> Volume:
    """Read one image: one series per channel.

    Parameters
    ----------
    files : sequence of Path
        Folders, zips or files, each of one series, on one grid and in one frame of reference.

    Returns
    -------
    Volume
        array of shape (C, X, Y, Z), or (C, X, Y) of a single slice, float32, rescaled as the header
        says: X counts columns, Y rows, Z slices along their normal.

    Raises
    ------
    InvalidImage
        As :func:`dicom_series.read_series`; if a channel holds NaN or is constant.
    GeometryMismatch
        If the channels lie on different grids or in different frames of reference.
    """
    spaces: list[str] = []

    def read(path: Path) -> tuple[NDArray[Any], Geometry]:
        series = read_series(path)
        spaces.append(series.frame_of_reference)
        if spaces[-1] != spaces[0]:
            raise GeometryMismatch(f"{path}: lies in another frame of reference than {files[0]}")
        return intensities(series), series.geometry

    return stacked(files, read)


def read_label_map(path: Path) -> LabelMap:
    """Read a DICOM segmentation. Raises InvalidImage as :func:`read_segmentation`."""
    return read_segmentation(path)


def read_header(path: Path) -> tuple[int, Geometry]:
    """Number of channels, always 1, and grid of a series. Raises InvalidImage."""
    return 1, read_series(path).geometry


def write_label_map(path: Path, labels: LabelMap) -> NoReturn:  # noqa: ARG001 - one interface
    """Raise OutputNotWritable: a segmentation names its source, so :func:`write_segmentation`."""
    raise OutputNotWritable(f"{path}: a DICOM segmentation is of a DICOM image; write NIfTI")


def write_map(path: Path, values: Float32Array, geometry: Geometry) -> NoReturn:  # noqa: ARG001 - one interface
    """Raise OutputNotWritable: maps of DICOM images are written as NIfTI."""
    raise OutputNotWritable(f"{path}: maps are not written as DICOM; write NIfTI")
