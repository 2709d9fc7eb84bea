"""How DICOM is told from other files, without any library: a site may have none that reads it."""

from dataclasses import dataclass, field
from typing import IO, Literal

ENDING = ".dcm"
ZIP_ENDING = ".zip"
ENDINGS = (ENDING, ZIP_ENDING)
MAGIC = b"DICM"
MAGIC_AT = 128
# Of segmentations: one bit per voxel and label, or one number per voxel.
Kind = Literal["binary", "labelmap"]


@dataclass(frozen=True)
class Identity:
    """Whose image a series is. Its ``repr`` tells nothing; it stays at the site.

    Attributes
    ----------
    patient : str
        The patient's id at the hospital; empty where the header has none.
    series : str
        The UID of the series; empty where the header has none.
    """

    patient: str = field(repr=False)
    series: str = field(repr=False)


def starts_as_dicom(stream: IO[bytes]) -> bool:
    """Whether a stream, at its beginning, has the magic of a DICOM file."""
    return stream.read(MAGIC_AT + len(MAGIC))[MAGIC_AT:] == MAGIC
