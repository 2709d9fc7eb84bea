"""The slices of one DICOM file: where each lies and how its values are meant.

A file holds one slice, or many with what is told of each in functional groups (enhanced objects).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from veilseg.errors import InvalidImage
from veilseg.imaging.checks import require_fitting
from veilseg.imaging.dicom_files import LIBRARY_ERRORS, Part

# Of direction cosines, and of pixel spacings as a share: rounding of decimal strings, no more.
ROUNDING = 1e-3
FRAME_GROUPS = (
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
)


@dataclass(frozen=True)
class Frame:
    """One slice.

    Attributes
    ----------
    part : Part
        The file that holds it.
    index : int
        Which of that file's frames it is.
    position, columns, rows : ndarray, shape (3,)
        Centre of the first pixel, and the steps from a column and a row to the next, in LPS mm.
    slope, intercept : float
        From stored values to intensities.
    thickness_mm : float
        1 where nothing is told; it places nothing.
    """

    part: Part
    index: int
    position: NDArray[np.float64]
    columns: NDArray[np.float64]
    rows: NDArray[np.float64]
    slope: float
    intercept: float
    thickness_mm: float

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector across the slice."""
        across = np.cross(self.columns, self.rows)
        return np.asarray(across / np.linalg.norm(across), dtype=np.float64)


def frames_of(part: Part) -> list[Frame]:
    """The slices of a file, in its own order.

    Raises
    ------
    InvalidImage
        If they are no grey values or larger than memory, or it does not say where they lie.
    """
    dataset = part.dataset
    try:
        colours, interpretation = dataset.SamplesPerPixel, dataset.PhotometricInterpretation
        shape = (announced_frames(part), int(dataset.Rows), int(dataset.Columns))
    except LIBRARY_ERRORS as error:
        raise InvalidImage(f"{part.name}: does not say what its pixels are") from error
    if colours != 1 or interpretation not in ("MONOCHROME1", "MONOCHROME2"):
        raise InvalidImage(f"{part.name}: is a colour image; grey is expected")
    if interpretation == "MONOCHROME1":
        raise InvalidImage(f"{part.name}: is a negative (MONOCHROME1): its large values are dark")
    require_fitting(shape, part.name)
    if "ModalityLUTSequence" in dataset:
        raise InvalidImage(f"{part.name}: has a table of intensities, which is not applied here")
    per_frame: Iterable[Any] = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    try:
        if per_frame:
            shared = list(dataset.get("SharedFunctionalGroupsSequence") or ())
            return [
                _frame(part, index, _gathered([*shared, own]))
                for index, own in enumerate(per_frame)
            ]
        if shape[0] == 1:
            return [_frame(part, 0, dataset)]
    except LIBRARY_ERRORS as error:
        raise InvalidImage(
            f"{part.name}: does not say where its pixels lie in the patient (a secondary capture, "
            "or a header without position, orientation or pixel spacing)"
        ) from error
    raise InvalidImage(f"{part.name}: has many frames and does not say where each of them lies")


def announced_frames(part: Part) -> int:
    """How many slices a file says it holds. Raises InvalidImage where that is no number."""
    try:
        return int(part.dataset.get("NumberOfFrames") or 1)
    except LIBRARY_ERRORS as error:
        raise InvalidImage(f"{part.name}: number of frames: cannot be read") from error


def _gathered(groups: list[Dataset]) -> Dataset:
    """What functional groups say of a frame, as a file of one slice has it; the last one counts."""
    found = Dataset()
    for name in FRAME_GROUPS:
        for group in groups:
            for item in group.get(name) or ():
                found.update(item)
    return found


def _frame(part: Part, index: int, header: Dataset) -> Frame:
    position = np.array(header.ImagePositionPatient, dtype=np.float64)
    directions = np.array(header.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
    between_rows, between_columns = (float(value) for value in header.PixelSpacing)
    if not np.allclose(directions @ directions.T, np.eye(2), rtol=0, atol=ROUNDING):
        raise InvalidImage(f"{part.name}: rows and columns are not at right angles")
    if not (between_rows > 0 and between_columns > 0 and position.shape == (3,)):
        raise InvalidImage(f"{part.name}: has no usable position or pixel spacing")
    slope, intercept = header.get("RescaleSlope"), header.get("RescaleIntercept")
    return Frame(
        part,
        index,
        position,
        directions[0] * between_columns,
        directions[1] * between_rows,
        1.0 if slope is None else float(slope),
        0.0 if intercept is None else float(intercept),
        float(header.get("SliceThickness") or 1.0),
    )
