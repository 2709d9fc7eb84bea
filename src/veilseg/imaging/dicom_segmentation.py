"""Segmentations as DICOM: written over their source series by highdicom, and read back."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
from numpy.typing import NDArray

from veilseg import __version__
from veilseg.bundle import ClientManifest
from veilseg.errors import InvalidImage, OutputNotWritable
from veilseg.files import written_whole
from veilseg.imaging.checks import require_fitting, require_same_grid
from veilseg.imaging.dicom_files import (
    LIBRARY_ERRORS,
    SEGMENTATIONS,
    parse,
    quiet,
    reading,
    require_readable,
)
from veilseg.imaging.dicom_marks import ENDING, Kind
from veilseg.imaging.dicom_references import LONGEST_TEXT, description, reference, short_text
from veilseg.imaging.dicom_series import (
    SPACING_TOLERANCE,
    TILT_TOLERANCE_DEGREES,
    Series,
    in_ras,
    read_series,
)
from veilseg.imaging.volume import Geometry, LabelMap

# Beside the series of the study, whose numbers are small.
SERIES_NUMBER = 1000


def write_segmentation(
    path: Path,
    labels: LabelMap,
    files: Sequence[Path],
    manifest: ClientManifest,
    kind: Kind = "binary",
) -> None:
    """Write labels as a DICOM segmentation of their source series, whole or not at all.

    Every frame is kept, empty ones too: a reader must be able to tell "nothing here" from "not
    looked at". Of the source's patient and study only what every object must have is copied.

    Parameters
    ----------
    path : Path
        Its name ends in ``.dcm``.
    labels : LabelMap
        On the grid of the source.
    files : sequence of Path
        The source: one series per channel. The first one's slices are those segmented.
    manifest : ClientManifest
        Names and codes of the labels, and what segmented them.
    kind : "binary" or "labelmap"
        One bit per voxel and label, which every viewer reads, or one number per voxel.

    Raises
    ------
    OutputNotWritable
        If the name ends otherwise, the folder takes no file, or the source's header has what no
        segmentation can refer to.
    GeometryMismatch
        If the labels are not on the grid of the source.
    InvalidImage
        If the source can no longer be read.
    """
    if not path.name.lower().endswith(ENDING):
        raise OutputNotWritable(f"{path}: cannot be written: the name must end in {ENDING}")
    sources = [read_series(file) for file in files]
    require_same_grid(sources[0].geometry, labels.geometry, str(files[0]), str(path))
    content = _encoded(path, labels.array, sources, files, manifest, kind)
    with written_whole(path) as temporary:
        temporary.write_bytes(content)


def require_source(path: Path, files: Sequence[Path], manifest: ClientManifest) -> None:
    """Try, with no labels and on one slice if possible, what :func:`write_segmentation` will do.

    Before anything is sent: later, a proxy would have left in vain.

    Raises
    ------
    OutputNotWritable, InvalidImage
        As :func:`write_segmentation`.
    """
    first, *others = (read_series(file) for file in files)
    shape = first.geometry.shape
    if len(first.parts) > 1:
        shape = shape[:2]
        first = Series(first.frames[:1], replace(first.geometry, shape=shape))
    _encoded(path, np.zeros(shape, np.uint8), [first, *others], files, manifest, "binary")


def read_segmentation(path: Path) -> LabelMap:
    """Read a DICOM segmentation, binary or labelmap: segment numbers are the labels.

    Raises
    ------
    InvalidImage
        If it is none, or a fractional one, is damaged, larger than memory, has segments that
        overlap or numbers beyond 255, or slices that make no even stack.
    """
    require_readable(path)
    dataset = parse(path.read_bytes(), str(path))
    with reading(str(path)):
        if dataset.get("SOPClassUID") not in SEGMENTATIONS:
            raise InvalidImage(f"{path}: not a DICOM segmentation")
        if dataset.get("SegmentationType") == "FRACTIONAL":
            raise InvalidImage(f"{path}: is fractional; a binary or labelmap one is expected")
    try:
        with quiet():
            require_fitting(
                (int(dataset.NumberOfFrames), int(dataset.Rows), int(dataset.Columns)), str(path)
            )
            found = hd.seg.Segmentation.from_dataset(dataset, copy=False).get_volume(
                combine_segments=True,
                rtol=SPACING_TOLERANCE,
                perpendicular_tol=float(np.sin(np.radians(TILT_TOLERANCE_DEGREES))),
            )
    except LIBRARY_ERRORS as error:
        raise InvalidImage(
            f"{path}: damaged, or its segments overlap or make no even stack "
            f"({type(error).__name__})"
        ) from error
    if found.array.max() > 255:
        raise InvalidImage(f"{path}: has segment numbers beyond 255")
    # From (slice, row, column) to this package's (X, Y, Z), slices along their normal as read.
    array = found.array.transpose(2, 1, 0).astype(np.uint8)
    affine = np.array(found.affine)[:, [2, 1, 0, 3]]
    if np.linalg.det(affine[:3, :3]) < 0:
        affine[:, 3] += affine[:, 2] * (array.shape[2] - 1)
        affine[:, 2] *= -1
        array = array[:, :, ::-1]
    flat = array.shape[2] == 1
    if flat:
        array = array[:, :, 0]
    return LabelMap(array, Geometry(array.shape, in_ras(affine), third_axis=flat))


def _encoded(
    path: Path,
    array: NDArray[np.uint8],
    sources: Sequence[Series],
    files: Sequence[Path],
    manifest: ClientManifest,
    kind: Kind,
) -> bytes:
    content = io.BytesIO()
    try:
        with quiet():
            _segmentation(array, sources, manifest, kind).save_as(content)
    except LIBRARY_ERRORS as error:
        raise OutputNotWritable(
            f"{path}: no segmentation can refer to the header of {files[0]} "
            f"({type(error).__name__}); write NIfTI"
        ) from error
    return content.getvalue()


def _segmentation(
    array: NDArray[np.uint8], sources: Sequence[Series], manifest: ClientManifest, kind: Kind
) -> hd.seg.Segmentation:
    first = sources[0]
    slices = array.reshape(*array.shape[:2], -1).transpose(2, 1, 0)
    if len(first.parts) == 1:
        # The frames of a file keep its order; ours is that of space.
        own_order = np.empty_like(slices)
        own_order[[frame.index for frame in first.frames]] = slices
        slices = own_order
    thickness_mm = 1.0 if first.geometry.ndim == 2 else first.geometry.spacing_mm[2]
    images = [reference(part, thickness_mm) for part in first.parts]
    further = [
        reference(part, thickness_mm)
        for series in sources[1:]
        for part in series.parts
        # highdicom refers to one study only.
        if part.dataset.StudyInstanceUID == images[0].StudyInstanceUID
    ]
    return hd.seg.Segmentation(
        source_images=images,
        pixel_array=np.ascontiguousarray(slices),
        segmentation_type=kind.upper(),
        segment_descriptions=[
            description(label, manifest) for label in manifest.labels if label.value
        ],
        series_instance_uid=hd.UID(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="Veilseg",
        manufacturer_model_name="Veilseg",
        software_versions=__version__,
        # Which "device" this was: the two halves that segmented it.
        device_serial_number=manifest.bundle_id[:LONGEST_TEXT],
        content_label="SEGMENTATION",
        content_description=short_text(f"{manifest.name} {manifest.version}"),
        omit_empty_frames=False,
        further_source_images=further or None,
    )
