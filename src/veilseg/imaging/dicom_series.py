"""One DICOM series as a grid in space: which slices there are, where they lie, what they hold.

Slices are ordered by where they lie along their normal, never by name or instance number. DICOM
counts millimetres towards the patient's left and back (LPS), everything else here towards right
and front (RAS): :func:`in_ras` is the only place that turns one into the other.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1

from veilseg.errors import InvalidImage
from veilseg.imaging.checks import require_fitting
from veilseg.imaging.dicom_files import LIBRARY_ERRORS, Part, quiet, read_parts, reading
from veilseg.imaging.dicom_frames import ROUNDING, Frame, announced_frames, frames_of
from veilseg.imaging.volume import Geometry
from veilseg.payload import Float32Array

# How far a slice may lie off its place in an even stack, as a share of the distance between slices:
# positions are often rounded to a tenth of a millimetre. A missing slice is off by half of it.
SPACING_TOLERANCE = 0.1
# Slices nearer than this share of the usual distance are at one place.
SAME_PLACE = 0.05
# Between the normal of the slices and the direction in which they are stacked.
TILT_TOLERANCE_DEGREES = 0.5
# What the plug-in that is apart reads.
JPEG = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1)
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Series:
    """Slices in their order along the normal, and the grid they make."""

    frames: tuple[Frame, ...]
    geometry: Geometry

    @property
    def parts(self) -> list[Part]:
        """The files, in the order in which their first slices lie."""
        return list({id(frame.part): frame.part for frame in self.frames}.values())

    @property
    def frame_of_reference(self) -> str:
        """The UID of the space that positions are told in."""
        return str(self.frames[0].part.dataset.FrameOfReferenceUID)


def in_ras(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """An affine to LPS millimetres as one to RAS millimetres."""
    return LPS_TO_RAS @ affine


def read_series(path: Path) -> Series:
    """Read and check a series; pixels stay as they are stored.

    Parameters
    ----------
    path : Path
        A folder, a zip or a file.

    Raises
    ------
    InvalidImage
        If there is not exactly one series of grey slices that are alike, evenly stacked and placed
        in one space; as :func:`dicom_files.read_parts`.
    """
    parts = read_parts(path)
    frames = []
    with reading(str(path)):
        _require_one_series(parts, path)
        for part in parts:
            with reading(part.name):
                frames += frames_of(part)
        return _stacked(frames, path)


def intensities(series: Series) -> Float32Array:
    """Rescaled values, shape (1, X, Y, Z), or (1, X, Y) of one slice.

    Raises
    ------
    InvalidImage
        If pixels are truncated or damaged, or compressed in a way that is not read here.
    """
    columns, rows, *_ = series.geometry.shape
    slices = np.empty((len(series.frames), rows, columns), dtype=np.float32)
    for part in series.parts:
        stored = _stored(part).reshape(-1, rows, columns)
        places = [k for k, frame in enumerate(series.frames) if frame.part is part]
        if len(stored) != len(places):
            raise InvalidImage(
                f"{part.name}: holds {len(stored)} slices and says where {len(places)} lie"
            )
        for place in places:
            frame = series.frames[place]
            # In double precision: large stored integers would lose their last bits.
            values = stored[frame.index].astype(np.float64)
            slices[place] = values * frame.slope + frame.intercept
    return slices.transpose(2, 1, 0).reshape(1, *series.geometry.shape)


def _stored(part: Part) -> NDArray[Any]:
    syntax = part.dataset.file_meta.get("TransferSyntaxUID")
    if not _is_decoded_here(syntax):
        hint = ": pip install 'veilseg[dicom-jpeg]'" if syntax in JPEG else ""
        raise InvalidImage(f"{part.name}: is compressed in a way that is not read here{hint}")
    try:
        with quiet():
            return pixel_array(part.dataset)
    except LIBRARY_ERRORS as error:
        raise InvalidImage(
            f"{part.name}: pixels are damaged or truncated ({type(error).__name__})"
        ) from error


def _is_decoded_here(syntax: UID | None) -> bool:
    try:
        return syntax is None or not syntax.is_encapsulated or get_decoder(syntax).is_available
    except (NotImplementedError, ValueError):
        return False  # pydicom knows no decoder of it, or it is no transfer syntax


def _require_one_series(parts: list[Part], path: Path) -> None:
    sizes: dict[str, int] = {}
    for part in parts:
        series = str(part.dataset.get("SeriesInstanceUID", ""))
        sizes[series] = sizes.get(series, 0) + 1
    if len(sizes) > 1:
        images = ", ".join(str(size) for size in sorted(sizes.values(), reverse=True))
        raise InvalidImage(
            f"{path}: holds {len(sizes)} series, of {images} images: "
            "give a folder, zip or file of one alone"
        )
    if len(parts) > 1 and any(announced_frames(part) > 1 for part in parts):
        raise InvalidImage(f"{path}: holds {len(parts)} files of many slices each: give one alone")


def _stacked(frames: list[Frame], path: Path) -> Series:
    first = frames[0]
    for frame in frames:
        _require_alike(frame, first)
    normal = first.normal
    ordered = sorted(frames, key=lambda frame: float(frame.position @ normal))
    rows, columns = int(first.part.dataset.Rows), int(first.part.dataset.Columns)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = first.columns, first.rows
    affine[:3, 3] = ordered[0].position
    shape: tuple[int, ...] = (columns, rows)
    if len(ordered) > 1:
        affine[:3, 2] = _step(ordered, normal, path)
        shape = (*shape, len(ordered))
    else:
        affine[:3, 2] = first.normal * first.thickness_mm
    require_fitting(shape, str(path))
    geometry = Geometry(shape, in_ras(affine), third_axis=len(shape) == 2)
    geometry.require_usable(str(path))
    return Series(tuple(ordered), geometry)


def _require_alike(frame: Frame, first: Frame) -> None:
    name = frame.part.name
    space = frame.part.dataset.get("FrameOfReferenceUID")
    if not space:
        raise InvalidImage(f"{name}: names no frame of reference: its position means nothing")
    if space != first.part.dataset.get("FrameOfReferenceUID"):
        raise InvalidImage(f"{name}: lies in another frame of reference than the first")
    size, other = (
        (int(dataset.Columns), int(dataset.Rows))
        for dataset in (frame.part.dataset, first.part.dataset)
    )
    if size != other:
        raise InvalidImage(f"{name}: has {size} pixels, the first of its series {other}")
    own, others = (np.array([one.columns, one.rows]) for one in (frame, first))
    lengths, other_lengths = (np.linalg.norm(steps, axis=1) for steps in (own, others))
    if not np.allclose(lengths, other_lengths, rtol=ROUNDING, atol=0):
        raise InvalidImage(f"{name}: has another pixel spacing than the first of its series")
    directions, other_directions = own / lengths[:, None], others / other_lengths[:, None]
    if not np.allclose(directions, other_directions, rtol=0, atol=ROUNDING):
        raise InvalidImage(f"{name}: is turned against the first of its series")


def _step(ordered: list[Frame], normal: NDArray[np.float64], path: Path) -> NDArray[np.float64]:
    """From a slice to the next, in LPS millimetres; refused where there is not one such step."""
    heights = np.array([frame.position @ normal for frame in ordered])
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    if gaps.min() <= SAME_PLACE * usual:
        raise InvalidImage(
            f"{path}: several slices lie at one place, of {len(ordered)} in all: a series of one "
            "time, echo or contrast is expected"
        )
    missing = sum(round(float(gap) / usual) - 1 for gap in gaps)
    if missing:
        raise InvalidImage(
            f"{path}: {missing} of {len(ordered) + missing} slices are missing: they lie "
            f"{usual:.3g} mm apart, once {gaps.max():.3g} mm"
        )
    step = (ordered[-1].position - ordered[0].position) / (len(ordered) - 1)
    along = float(step @ normal)
    tilt = float(np.degrees(np.arctan2(np.linalg.norm(step - along * normal), along)))
    if tilt > TILT_TOLERANCE_DEGREES:
        raise InvalidImage(
            f"{path}: is stacked {tilt:.1f} degrees off the normal of its slices (gantry tilt): "
            "have it resampled first"
        )
    places = ordered[0].position + np.arange(len(ordered))[:, None] * step
    positions = np.array([frame.position for frame in ordered])
    if np.linalg.norm(positions - places, axis=1).max() > SPACING_TOLERANCE * along:
        raise InvalidImage(
            f"{path}: slices lie unevenly, {gaps.min():.3g} to {gaps.max():.3g} mm apart; "
            f"up to {SPACING_TOLERANCE:.0%} off an even stack is taken"
        )
    return step
