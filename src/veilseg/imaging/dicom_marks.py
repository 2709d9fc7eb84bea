"""How DICOM is told from other files, without any library: a site may have none that reads it."""

from typing import IO

ENDING = ".dcm"
ZIP_ENDING = ".zip"
ENDINGS = (ENDING, ZIP_ENDING)
MAGIC = b"DICM"
MAGIC_AT = 128


def starts_as_dicom(stream: IO[bytes]) -> bool:
    """Whether a stream, at its beginning, has the magic of a DICOM file."""
    return stream.read(MAGIC_AT + len(MAGIC))[MAGIC_AT:] == MAGIC
