"""The files of a DICOM series, from a folder, a zip or one file, before anything is made of them.

Names of files, names of people and UIDs stay out of every message: an export's file names tell as
much as its headers. An error names the path that was typed and counts the files under it.
"""

import io
import logging
import os
import struct
import threading
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import pydicom
from pydicom.dataset import FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import SegmentationStorage

from veilseg.errors import InvalidImage
from veilseg.imaging.checks import require_bytes_fitting, require_file
from veilseg.imaging.dicom_marks import ENDING, ZIP_ENDING, Identity, starts_as_dicom

# The transfer syntax stands in the first kilobyte. Inflating has no limit in pydicom.
START_BYTES = 2048
DEFLATED = b"1.2.840.10008.1.2.1.99"
# Label Map Segmentation Storage is too young to have a name in pydicom 3.0.
SEGMENTATIONS = (SegmentationStorage, "1.2.840.10008.5.1.4.1.1.66.7")
LOGGERS = ("pydicom", "highdicom", "pylibjpeg", "libjpeg", "openjpeg", "jpeg_ls")
# What pydicom, its plug-ins and highdicom raise of content that they do not expect.
LIBRARY_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    AssertionError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    InvalidDicomError,
    BytesLengthException,
)


@dataclass(frozen=True)
class Part:
    """One file of a series.

    Attributes
    ----------
    name : str
        How an error names it.
    dataset : FileDataset
        Its header, and its pixels as they are stored.
    """

    name: str
    dataset: FileDataset


@dataclass(frozen=True)
class _File:
    size: int
    promised: bool
    content: Callable[[], bytes]


class _Silence:
    """Of the whole process, for as long as any thread needs it: levels and filters are global."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._undo = ExitStack()

    @contextmanager
    def kept(self) -> Iterator[None]:
        with self._lock:
            if not self._inside:
                self._begin()
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._undo.close()

    def _begin(self) -> None:
        for logger in map(logging.getLogger, LOGGERS):
            self._undo.callback(logger.setLevel, logger.level)
            # Their children have no level of their own and ask for this one.
            logger.setLevel(logging.CRITICAL + 1)
        self._undo.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")


_SILENCE = _Silence()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what the libraries have to say of a header to themselves: it quotes the header."""
    with _SILENCE.kept():
        yield


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn whatever the libraries raise into one line: elements are parsed when they are asked for.

    Raises
    ------
    InvalidImage
        Which begins with ``name``.
    """
    try:
        with quiet():
            yield
    except LIBRARY_ERRORS as error:
        raise InvalidImage(f"{name}: damaged or truncated ({type(error).__name__})") from error


def read_parts(path: Path) -> list[Part]:
    """Read every image in a folder, with its subfolders, in a zip, or of one file.

    Whatever else lies in a folder or a zip is passed over: hidden files, texts, a DICOMDIR,
    reports, presentation states, segmentations. What is named or begun as DICOM and cannot be read
    is not: a slice at an end would be lost without a trace.

    Raises
    ------
    InvalidImage
        If there is none, one is damaged or has no pixels, or all do not fit into memory; if a zip
        is damaged, encrypted, or holds a name that leads out of it.
    """
    if not path.exists():
        raise InvalidImage(f"{path}: no such file")
    with _files(path) as files:
        require_bytes_fitting(sum(file.size for file in files), str(path))
        alone = path.is_file() and not zipfile.is_zipfile(path)
        parts = []
        for number, file in enumerate(files):
            name = str(path) if alone else f"{path}: file {number + 1} of {len(files)} by name"
            dataset = _parsed(file, name)
            if dataset is None:
                continue
            with reading(name):
                if alone or _is_image(dataset, name):
                    _require_pixels(dataset, name)
                    parts.append(Part(name, dataset))
    if not parts:
        raise InvalidImage(f"{path}: not a DICOM image" if alone else f"{path}: no DICOM image")
    return parts


def _require_pixels(dataset: FileDataset, name: str) -> None:
    if dataset.get("SOPClassUID") in SEGMENTATIONS:
        raise InvalidImage(f"{name}: is a segmentation, not an image")
    if "PixelData" not in dataset:
        raise InvalidImage(f"{name}: has no pixel data: no image, or truncated")


def _is_image(dataset: FileDataset, name: str) -> bool:
    """Whether a file is of images by its kind, which it says first, or has pixels."""
    kind = dataset.file_meta.get("MediaStorageSOPClassUID")
    if kind is None:
        raise InvalidImage(f"{name}: does not say what kind of DICOM it is: damaged or truncated")
    announced = kind.name.endswith("Image Storage") or "PixelData" in dataset
    return announced and kind not in SEGMENTATIONS


def identity_of(path: Path) -> Identity:
    """Whose image a folder, zip or file holds, by the first DICOM file in it, without its pixels.

    Raises
    ------
    InvalidImage
        As :func:`read_parts`, or if it holds no DICOM file.
    """
    if not path.exists():
        raise InvalidImage(f"{path}: no such file")
    with _files(path) as files:
        for number, file in enumerate(files):
            name = f"{path}: file {number + 1} of {len(files)} by name"
            dataset = _parsed(file, name)
            if dataset is None or "SeriesInstanceUID" not in dataset:
                continue
            with reading(name):
                tags = ("PatientID", "SeriesInstanceUID")
                return Identity(*(str(dataset.get(tag) or "") for tag in tags))
    raise InvalidImage(f"{path}: no DICOM image")


def require_readable(path: Path) -> None:
    """Raise InvalidImage unless there is a file that fits into memory and starts as DICOM does."""
    require_file(path)
    require_bytes_fitting(path.stat().st_size, str(path))
    with path.open("rb") as stream:
        if not starts_as_dicom(stream):
            raise InvalidImage(f"{path}: not a DICOM file")


def parse(content: bytes, name: str) -> FileDataset:
    """Header and stored pixels of a file's bytes.

    Raises
    ------
    InvalidImage
        If they are damaged, or deflated.
    """
    if DEFLATED in content[:START_BYTES]:
        raise InvalidImage(f"{name}: is deflated as a whole; save it uncompressed")
    with reading(name):
        return pydicom.dcmread(io.BytesIO(content))


def _parsed(file: _File, name: str) -> FileDataset | None:
    """None of a file that is no DICOM and does not promise to be one."""
    try:
        content = file.content()
    except LIBRARY_ERRORS as error:
        raise InvalidImage(f"{name}: cannot be read ({type(error).__name__})") from error
    if not starts_as_dicom(io.BytesIO(content)):
        if file.promised:
            raise InvalidImage(f"{name}: not a DICOM file, though named as one, or truncated")
        return None
    return parse(content, name)


@contextmanager
def _files(path: Path) -> Iterator[list[_File]]:
    """Files in the order of their names, each read when it is asked for."""
    if path.is_dir():
        found = []
        for folder, _, names in os.walk(path):
            found += [Path(folder) / name for name in names]
        yield [_on_disk(file) for file in sorted(found) if file.is_file() and _is_shown(file.name)]
    elif path.suffix.lower() == ZIP_ENDING or zipfile.is_zipfile(path):
        try:
            archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile, ValueError) as error:
            raise InvalidImage(f"{path}: not a zip, damaged or truncated") from error
        with archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            for entry in entries:
                _require_harmless(entry, path)
            entries.sort(key=lambda entry: entry.filename)
            yield [_in_zip(archive, entry) for entry in entries if _is_shown(entry.filename)]
    else:
        yield [_on_disk(path)]


def _is_shown(name: str) -> bool:
    """False of hidden files: macOS puts a ``._IM1.dcm``, which is no DICOM, beside each IM1.dcm."""
    return not PurePosixPath(name).name.startswith(".")


def _on_disk(file: Path) -> _File:
    return _File(file.stat().st_size, file.suffix.lower() == ENDING, file.read_bytes)


def _in_zip(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> _File:
    # No more is unpacked than the entry announces, whatever its bytes would give.
    promised = entry.filename.lower().endswith(ENDING)
    return _File(entry.file_size, promised, lambda: archive.read(entry))


def _require_harmless(entry: zipfile.ZipInfo, path: Path) -> None:
    if entry.flag_bits & 1:
        raise InvalidImage(f"{path}: is encrypted; unpack it first")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # zipfile unpacks the others without a limit.
        raise InvalidImage(f"{path}: is compressed otherwise than zips are; unpack it first")
    # Nothing is unpacked to disk; such a zip was made to harm all the same.
    for kind in (PurePosixPath, PureWindowsPath):
        name = kind(entry.orig_filename)
        if name.is_absolute() or name.drive or ".." in name.parts:
            raise InvalidImage(f"{path}: holds a file whose name leads out of the zip")
