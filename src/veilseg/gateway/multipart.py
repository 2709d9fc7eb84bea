"""Forms as they come: every file goes straight to disk, so that none of it takes memory."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, Self

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from veilseg.gateway.errors import InvalidRequest

FIELD_BYTES: Final = 65536
MOST_FIELDS: Final = 20


@dataclass(frozen=True)
class Upload:
    """One file, as its user called it, and where it lies under a name that says nothing."""

    name: str
    path: Path
    size: int


@dataclass
class Form:
    """What a form holds.

    Attributes
    ----------
    fields : dict of str
    files : dict of list of Upload
        By the name of their field, in the order in which they came.
    """

    fields: dict[str, str] = field(default_factory=dict)
    files: dict[str, list[Upload]] = field(default_factory=dict)


class MultipartForm:
    """Takes ``multipart/form-data`` piece by piece. A context manager: its open file is closed.

    Parameters
    ----------
    content_type : str
        Of the request, with the boundary.
    folder : Path
        For the files.
    most_files : int

    Raises
    ------
    InvalidRequest
        If there is no boundary.
    """

    def __init__(self, content_type: str, folder: Path, most_files: int) -> None:
        self.form = Form()
        self._folder, self._most_files = folder, most_files
        self._header, self._value = b"", b""
        self._disposition = b""
        self._name, self._filename = "", ""
        self._data = bytearray()
        self._file: IO[bytes] | None = None
        self._count, self._ended = 0, False
        _, options = parse_options_header(content_type)
        callbacks: dict[str, Callable[..., None]] = {
            "on_part_begin": self._begin_part,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._take,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }
        try:
            self._parser = MultipartParser(options[b"boundary"], callbacks)  # type: ignore[arg-type]
        except (KeyError, FormParserError) as error:
            raise InvalidRequest("body: no form: its boundary is missing or too long") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, chunk: bytes) -> None:
        """Take the next piece; to be called in a thread, for it writes to disk.

        Raises
        ------
        InvalidRequest
            If it is no part of a form, or of one with more than forms here have.
        """
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise InvalidRequest("body: no form") from error

    def finish(self) -> Form:
        """What it held. Raises InvalidRequest if its end is missing."""
        if not self._ended:
            raise InvalidRequest("body: the form is cut short")
        return self.form

    def _begin_part(self) -> None:
        self._disposition = b""
        self._data.clear()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise InvalidRequest("body: a part of the form has no name")
        self._name = options[b"name"].decode("utf-8", "replace")
        if b"filename" not in options:
            if len(self.form.fields) >= MOST_FIELDS:
                raise InvalidRequest(f"body: Too many fields. At most {MOST_FIELDS} are taken")
            return
        if self._count >= self._most_files:
            raise InvalidRequest(f"body: Too many files. At most {self._most_files} are taken")
        self._filename = options[b"filename"].decode("utf-8", "replace")
        self._file = self._path().open("wb")

    def _end(self) -> None:
        self._ended = True

    def _path(self) -> Path:
        return self._folder / f"{self._count:06d}"

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(memoryview(data)[start:end])
            return
        if len(self._data) + end - start > FIELD_BYTES:
            raise InvalidRequest(f"body: a field has more than {FIELD_BYTES} bytes")
        self._data += data[start:end]

    def _end_part(self) -> None:
        if self._file is None:
            self.form.fields[self._name] = self._data.decode("utf-8", "replace")
            return
        size = self._file.tell()
        self._file.close()
        self._file = None
        upload = Upload(self._filename, self._path(), size)
        self.form.files.setdefault(self._name, []).append(upload)
        self._count += 1
