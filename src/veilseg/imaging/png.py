"""PNG in and out: 2D, grey or RGB, in pixels. The only place that imports Pillow."""

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from veilseg.errors import InvalidImage, OutputNotWritable
from veilseg.files import written_whole
from veilseg.imaging.checks import (
    as_label_map,
    one_line,
    require_file,
    require_fitting,
    stacked,
)
from veilseg.imaging.volume import Geometry, LabelMap, Volume
from veilseg.payload import Float32Array

ENDING = ".png"
SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Signature, length and name of the first chunk, then width, height, bits per value, colour type.
HEADER = struct.Struct(">8sI4sIIBB")
COLOURS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGB with alpha"}
# Pillow would stretch 2 and 4 bits and cut 16-bit colours to 8 without a word.
TAKEN = {(1, "grey"), (8, "grey"), (16, "grey"), (8, "RGB")} | {
    (8, "grey with alpha"),
    (8, "RGB with alpha"),
}
OPAQUE = 255


@dataclass(frozen=True)
class _Header:
    bits: int
    colour: str
    geometry: Geometry

    @property
    def channels(self) -> int:
        """Without alpha."""
        return 3 if self.colour.startswith("RGB") else 1


def read_image(files: Sequence[Path]) -> Volume:
    """Read one image: one RGB file, or one grey file per channel.

    Parameters
    ----------
    files : sequence of Path
        PNG files of one size, in the order of the bundle's channels.

    Returns
    -------
    Volume
        array of shape (C, X, Y), float32: X counts columns from the left, Y rows from the top.

    Raises
    ------
    InvalidImage
        If a file is missing, no PNG, damaged, too large, constant, animated, or of a kind whose
        values are not plain intensities (palette, transparency, 16-bit colours).
    GeometryMismatch
        If the files differ in size.
    """
    return stacked(files, _read)


def read_label_map(path: Path) -> LabelMap:
    """Read integer labels: the grey values are the labels.

    Raises
    ------
    InvalidImage
        As :func:`read_image`, and if the file is not grey or a value exceeds 255.
    """
    return as_label_map(path, *_read(path))


def read_header(path: Path) -> tuple[int, Geometry]:
    """Number of channels and grid of a file, without its pixels.

    Raises
    ------
    InvalidImage
        As :func:`read_image`, as far as the header tells.
    """
    header = _header(path)
    return header.channels, header.geometry


def write_label_map(path: Path, labels: LabelMap) -> None:
    """Write labels as an 8-bit grey PNG, whole or not at all.

    Raises
    ------
    OutputNotWritable
        If the folder is missing or takes no file, the disk is full, the name does not end in .png,
        or the labels are not 2D.
    """
    _write(path, labels.array)


def write_map(path: Path, values: Float32Array, geometry: Geometry) -> None:  # noqa: ARG001 - one interface
    """Write values in [0, 1] as an 8-bit grey PNG: 255 times the value, rounded.

    Raises
    ------
    OutputNotWritable
        As :func:`write_label_map`.
    """
    _write(path, np.round(255 * values).astype(np.uint8))


def _write(path: Path, array: NDArray[np.uint8]) -> None:
    if path.suffix.lower() != ENDING:
        raise OutputNotWritable(f"{path}: cannot be written: the name must end in .png")
    if array.ndim != 2:
        raise OutputNotWritable(f"{path}: cannot be written: a PNG holds no {array.ndim}D array")
    with written_whole(path) as temporary:
        content = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(array.T)).save(content, format="PNG")
        temporary.write_bytes(content.getvalue())


def _read(path: Path) -> tuple[NDArray[Any], Geometry]:
    header = _header(path)
    try:
        with path.open("rb") as stream:
            with Image.open(stream, formats=["PNG"]) as image:
                image.verify()  # the checksums, which decoding leaves out
            stream.seek(0)
            with Image.open(stream, formats=["PNG"]) as image:
                if getattr(image, "is_animated", False):
                    raise InvalidImage(f"{path}: is animated; one picture is expected")
                if "transparency" in image.info:
                    raise InvalidImage(f"{path}: declares a transparent colour; save it without")
                rows = np.asarray(image)
    except (OSError, EOFError, ValueError, SyntaxError, struct.error, zlib.error) as error:
        raise InvalidImage(f"{path}: damaged or truncated: {one_line(error)}") from error
    array = rows.reshape(*rows.shape[:2], -1).transpose(2, 1, 0)
    if header.colour.endswith("alpha"):
        if array[-1].min() < OPAQUE:
            raise InvalidImage(f"{path}: has transparent pixels; save it without transparency")
        array = array[:-1]
    return array, header.geometry


def _header(path: Path) -> _Header:
    """What the first chunk says, refused where Pillow would change values or run out of memory."""
    require_file(path)
    try:
        with path.open("rb") as stream:
            start = stream.read(HEADER.size)
    except OSError as error:
        raise InvalidImage(f"{path}: cannot be read: {error.strerror}") from error
    if len(start) < HEADER.size or start[:8] != SIGNATURE or start[12:16] != b"IHDR":
        raise InvalidImage(f"{path}: not a PNG image")
    *_, width, height, bits, colour_type = HEADER.unpack(start)
    colour = COLOURS.get(colour_type, f"colour type {colour_type}")
    if (bits, colour) not in TAKEN:
        raise InvalidImage(
            f"{path}: is a PNG of {bits}-bit {colour}; 8- or 16-bit grey or 8-bit RGB is expected"
        )
    # The file may state a size on paper, in dots per inch; that is no size in the patient.
    found = _Header(bits, colour, Geometry((width, height), np.eye(4), "pixel", sized=False))
    require_fitting((found.channels, width, height), str(path))
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise InvalidImage(
            f"{path}: announces {width * height:,} pixels, more than the "
            f"{Image.MAX_IMAGE_PIXELS:,} that Pillow deems safe"
        )
    return found
