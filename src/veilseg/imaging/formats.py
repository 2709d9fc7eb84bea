"""Images and label maps by the ending of their names: PNG, or else NIfTI."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from veilseg.errors import InvalidImage
from veilseg.imaging import nifti, png
from veilseg.imaging.volume import Geometry, LabelMap, Volume
from veilseg.payload import Float32Array

# A format is a module with read_header, read_image, read_label_map,
# write_label_map and write_map.
ENDINGS = (*nifti.ENDINGS, png.ENDING)


def read_image(files: Sequence[Path]) -> Volume:
    """Read one image, one file per channel or one that holds them all.

    Parameters
    ----------
    files : sequence of Path
        On one grid, in the order of the bundle's channels.

    Returns
    -------
    Volume
        array of shape (C, X, Y, Z) or (C, X, Y), float32, in the file's own orientation.

    Raises
    ------
    InvalidImage, GeometryMismatch
        As the formats: :func:`nifti.read_image`, :func:`png.read_image`.
    """
    if not files:
        raise InvalidImage("no image file given")
    volume: Volume = _format(files[0]).read_image(files)
    return volume


def read_label_map(path: Path) -> LabelMap:
    """Read integer labels. Raises InvalidImage as :func:`read_image`, or for other values."""
    labels: LabelMap = _format(path).read_label_map(path)
    return labels


def read_header(path: Path) -> tuple[int, Geometry]:
    """Number of channels and grid of a file, without its voxels. Raises InvalidImage."""
    header: tuple[int, Geometry] = _format(path).read_header(path)
    return header


def write_label_map(path: Path, labels: LabelMap) -> None:
    """Write labels, whole or not at all. Raises OutputNotWritable as the formats."""
    _format(path).write_label_map(path, labels)


def write_map(path: Path, values: Float32Array, geometry: Geometry) -> None:
    """Write values in [0, 1] on an image's grid: float32 in NIfTI, 0…255 in PNG."""
    _format(path).write_map(path, values, geometry)


def result_endings(image: Path) -> tuple[str, ...]:
    """Endings that the result of an image may have, the usual one first."""
    return (png.ENDING,) if _format(image) is png else nifti.ENDINGS


def ending_of(path: Path) -> str:
    """The ending by which a file's format is known, as the name spells it; empty if none is."""
    name = path.name
    return next((name[-len(end) :] for end in ENDINGS if name.lower().endswith(end)), "")


def _format(path: Path) -> ModuleType:
    return png if path.suffix.lower() == png.ENDING else nifti
