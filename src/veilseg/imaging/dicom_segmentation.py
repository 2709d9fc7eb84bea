"""Segmentations as DICOM: written over their source series by highdicom, and read back."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.valuerep import DSfloat

from veilseg import __version__
from veilseg.bundle import ClientManifest, Label
from veilseg.errors import InvalidImage, OutputNotWritable
from veilseg.files import written_whole
from veilseg.imaging.checks import require_fitting, require_same_grid
from veilseg.imaging.dicom_files import (
    LIBRARY_ERRORS,
    SEGMENTATIONS,
    Part,
    parse,
    quiet,
    require_readable,
)
from veilseg.imaging.dicom_marks import ENDING
from veilseg.imaging.dicom_series import (
    SPACING_TOLERANCE,
    TILT_TOLERANCE_DEGREES,
    Series,
    in_ras,
    read_series,
)
from veilseg.imaging.volume import Geometry, LabelMap

Kind = Literal["binary", "labelmap"]

# A result must belong to the same patient and study; of both, these are required of every object.
# Empty where the source has none. Anything else of the patient (age, weight, other ids) stays out.
IDENTIFYING = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
)
# What references and places the slices.
PLACING = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
# Codes of labels that the bundle has none for: this scheme is Veilseg's own and means nothing
# beyond the label's value and name in its bundle.
OWN_SCHEME = "99VEILSEG"
# Longest text of the value representations LO and CS, and of a code value.
LONGEST_TEXT = 64
LONGEST_CODE = 16
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
    try:
        with quiet():
            content = io.BytesIO()
            _segmentation(labels, sources, manifest, kind).save_as(content)
    except LIBRARY_ERRORS as error:
        raise OutputNotWritable(
            f"{path}: no segmentation can refer to the header of {files[0]} "
            f"({type(error).__name__}); write NIfTI"
        ) from error
    with written_whole(path) as temporary:
        temporary.write_bytes(content.getvalue())


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
    if dataset.get("SOPClassUID") not in SEGMENTATIONS:
        raise InvalidImage(f"{path}: not a DICOM segmentation")
    if dataset.get("SegmentationType") == "FRACTIONAL":
        raise InvalidImage(f"{path}: is a fractional segmentation; binary or labelmap is expected")
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


def _segmentation(
    labels: LabelMap, sources: Sequence[Series], manifest: ClientManifest, kind: Kind
) -> hd.seg.Segmentation:
    first = sources[0]
    slices = labels.array.reshape(*labels.array.shape[:2], -1).transpose(2, 1, 0)
    if len(first.parts) == 1:
        # The frames of a file keep its order; ours is that of space.
        own_order = np.empty_like(slices)
        own_order[[frame.index for frame in first.frames]] = slices
        slices = own_order
    thickness_mm = 1.0 if first.geometry.ndim == 2 else first.geometry.spacing_mm[2]
    images = [_reference(part, thickness_mm) for part in first.parts]
    further = [
        _reference(part, thickness_mm)
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
            _description(label, manifest) for label in manifest.labels if label.value
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
        content_description=_text(f"{manifest.name} {manifest.version}"),
        omit_empty_frames=False,
        further_source_images=further or None,
    )


def _reference(part: Part, thickness_mm: float) -> Dataset:
    """What a segmentation may know of a slice; as thick as told where its header does not say."""
    source = part.dataset
    reference = Dataset()
    # Names may be of any script, and so may labels.
    reference.SpecificCharacterSet = "ISO_IR 192"
    for keyword in IDENTIFYING:
        value = source.get(keyword)
        is_name = keyword.endswith("Name")
        setattr(reference, keyword, "" if value is None else str(value) if is_name else value)
    for keyword in PLACING:
        value = source.get(keyword)
        if value is not None:
            setattr(reference, keyword, value)
    if reference.get("SliceThickness") is None and "NumberOfFrames" not in reference:
        reference.SliceThickness = DSfloat(thickness_mm, auto_format=True)
    return reference


def _description(label: Label, manifest: ClientManifest) -> hd.seg.SegmentDescription:
    return hd.seg.SegmentDescription(
        segment_number=label.value,
        segment_label=_text(label.name),
        segmented_property_category=codes.SCT.Tissue,
        segmented_property_type=code_of(label),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=_text(manifest.name),
            family=codes.DCM.ArtificialIntelligence,
            version=_text(manifest.version),
            source="Veilseg",
            parameters={"scheme": manifest.scheme, "bundle_id": manifest.bundle_id},
        ),
    )


def code_of(label: Label) -> Code:
    """The bundle's code of a label, or else one of Veilseg's own that says its value and name."""
    code = label.code or {}
    if {"value", "scheme", "meaning"} <= code.keys():
        return Code(code["value"], code["scheme"], _text(code["meaning"]))
    return Code(str(label.value)[:LONGEST_CODE], OWN_SCHEME, _text(label.name))


def _text(text: str) -> str:
    """As DICOM's short texts are: a backslash would part it in two."""
    return text.replace("\\", "/")[:LONGEST_TEXT]
