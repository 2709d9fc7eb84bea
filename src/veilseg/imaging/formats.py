"""Images and label maps by the ending of their names: PNG, DICOM, or else NIfTI.

A folder and a file with DICOM's magic are DICOM, too. What reads it is an extra, and imported only
where a DICOM image is met.
"""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from veilseg.bundle import ClientManifest
from veilseg.errors import InvalidImage, MissingDependency
from veilseg.imaging import dicom_marks, nifti, png
from veilseg.imaging.dicom_marks import Identity, Kind
from veilseg.imaging.volume import Geometry, LabelMap, Volume
from veilseg.payload import Float32Array

# A format is a module with read_header, read_image, read_label_map,
# write_label_map and write_map.
# Those that the files of a data set may have.
ENDINGS = (*nifti.ENDINGS, png.ENDING)
# What DICOM support cannot do without.
DICOM_LIBRARIES = ("pydicom", "highdicom")
# Results only: what viewers ask the gateway for.
NRRD_ENDING = ".nrrd"


def read_image(files: Sequence[Path]) -> Volume:
    """Read one image, one file per channel or one that holds them all.

    Parameters
    ----------
    files : sequence of Path
        On one grid, in the order of the bundle's channels. A series of DICOM counts as a file.

    Returns
    -------
    Volume
        array of shape (C, X, Y, Z) or (C, X, Y), float32, in the file's own orientation.

    Raises
    ------
    InvalidImage, GeometryMismatch
        As the formats: :func:`nifti.read_image`, :func:`png.read_image`, ``dicom.read_image``.
    MissingDependency
        If it is DICOM and what reads that is not installed.
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


def write_segmentation(
    path: Path,
    labels: LabelMap,
    files: Sequence[Path],
    manifest: ClientManifest,
    kind: Kind = "binary",
) -> None:
    """Write the labels of an image; as DICOM, with its source and the meaning of each label.

    Parameters
    ----------
    path : Path
        Its ending says the format; ``.nrrd`` is one as well.
    labels : LabelMap
    files : sequence of Path
        The image, as :func:`read_image` takes it.
    manifest : ClientManifest
        What the labels are, and what segmented them.
    kind : "binary" or "labelmap"
        As DICOM: one bit per voxel and label, or one number per voxel.

    Raises
    ------
    OutputNotWritable, GeometryMismatch, InvalidImage
        As the formats.
    """
    if path.name.lower().endswith(dicom_marks.ENDING):
        _dicom().write_segmentation(path, labels, files, manifest, kind)
    elif path.name.lower().endswith(NRRD_ENDING):
        from veilseg.imaging import nrrd

        nrrd.write_label_map(path, labels)
    else:
        write_label_map(path, labels)


def require_source(path: Path, files: Sequence[Path], manifest: ClientManifest) -> None:
    """Refuse an image that :func:`write_segmentation` could not refer to, before it is segmented.

    Raises
    ------
    OutputNotWritable, InvalidImage
        As the formats.
    """
    if path.name.lower().endswith(dicom_marks.ENDING):
        _dicom().require_source(path, files, manifest)


def write_map(path: Path, values: Float32Array, geometry: Geometry) -> None:
    """Write values in [0, 1] on an image's grid: float32 in NIfTI, 0…255 in PNG."""
    _format(path).write_map(path, values, geometry)


def result_endings(image: Path) -> tuple[str, ...]:
    """Endings that the result of an image may have, the usual one first."""
    return (dicom_marks.ENDING, *nifti.ENDINGS) if is_dicom(image) else map_endings(image)


def map_endings(image: Path) -> tuple[str, ...]:
    """Endings that a map of an image's voxels may have, the usual one first: never DICOM."""
    return (png.ENDING,) if image.suffix.lower() == png.ENDING else nifti.ENDINGS


def ending_of(path: Path) -> str:
    """The ending by which a file's format is known, as the name spells it; empty if none is."""
    name = path.name
    known = (*ENDINGS, *dicom_marks.ENDINGS)
    return next((name[-len(end) :] for end in known if name.lower().endswith(end)), "")


def stem_of(image: Path) -> str:
    """Name of an image without its ending and the number of its channel."""
    # "." and ".." are folders of a name that is not typed.
    name = image.name if image.name not in ("", "..") else image.resolve().name
    return name.removesuffix(ending_of(image)).removesuffix("_0000")


def is_dicom(path: Path) -> bool:
    """Whether a path is DICOM's by its ending, or, having none that is known, by what is there.

    Files of an export often have no ending.
    """
    ending = ending_of(path).lower()
    if ending:
        return ending in dicom_marks.ENDINGS
    if path.is_dir():
        return True
    try:
        with path.open("rb") as stream:
            return dicom_marks.starts_as_dicom(stream)
    except OSError:
        return False


def identity_of(path: Path) -> Identity | None:
    """What the header of a DICOM image says of whose it is; None of another format.

    Raises
    ------
    InvalidImage, MissingDependency
        As :func:`read_image`, as far as the first file tells.
    """
    if not is_dicom(path):
        return None
    found: Identity = _dicom().identity_of(path)
    return found


def channel(image: Path, index: int) -> Path | None:
    """A further channel of an image whose name ends in ``_0000``; None if it does not.

    nnU-Net's way of naming, of files and of folders.
    """
    stem, found, ending = image.name.partition("_0000.")
    if found:
        return image.with_name(f"{stem}_{index:04d}.{ending}")
    if image.name.endswith("_0000"):
        return image.with_name(f"{image.name.removesuffix('0000')}{index:04d}")
    return None


def _format(path: Path) -> ModuleType:
    if is_dicom(path):
        return _dicom()
    return png if path.suffix.lower() == png.ENDING else nifti


def _dicom() -> ModuleType:
    try:
        from veilseg.imaging import dicom
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in DICOM_LIBRARIES:
            raise
        raise MissingDependency(
            f"DICOM needs {' and '.join(DICOM_LIBRARIES)}: pip install 'veilseg[dicom]'"
        ) from error
    return dicom
