"""Who asked which model, when and for how many bytes: append-only lines, each pinning the last.

Every line is a JSON object that holds the SHA-256 of the line before it, so that no line can be
changed, removed or put in between without all later ones being written anew. Whoever may write
the file may do just that, and may cut lines off its end: against both helps only a head (count
and hash of the last line) that is kept where that person cannot write. Lines hold no pixels, no
names of patients and no tokens.
"""

import hashlib
import json
import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from filelock import FileLock, Timeout

from veilseg.access.errors import AuditLogBroken, AuditLogFailed
from veilseg.access.tokens import utc_now
from veilseg.errors import InvalidInput

logger = logging.getLogger(__name__)

NOTHING: Final = "0" * 64
OWNER_ONLY: Final = 0o600
# Longer than any line that is written here; a line without end is no line.
MAX_LINE_BYTES: Final = 65536
# Logs often go to another machine: a head in them is one that is kept elsewhere.
ENTRIES_PER_TOLD_HEAD: Final = 1000


@dataclass(frozen=True)
class Head:
    """The end of a log: how many lines, and the hash of the last."""

    count: int = 0
    hash: str = NOTHING

    def __str__(self) -> str:
        return f"{self.count}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``COUNT:HASH``. Raises :class:`InvalidInput` for anything else."""
        count, _, digest = text.strip().partition(":")
        hexadecimal = len(digest) == 64 and set(digest) <= set("0123456789abcdef")
        if not (count.isascii() and count.isdigit() and hexadecimal):
            raise InvalidInput("head: write it as veilseg log verify prints it, COUNT:HASH")
        return cls(int(count), digest)


class AuditLog:
    """Appends entries; safe to use from several threads, by one process at a time.

    Parameters
    ----------
    path : Path
        Made if missing, private to its user. A line that a crash left half is taken off: its
        request was never answered. If the file is moved away, the next entry begins a new
        file that goes on from the moved one's last line.
    sync : bool
        Whether every entry is on the disk, not only with the operating system, before
        :meth:`append` returns.

    Raises
    ------
    InvalidInput
        If the file cannot be opened, or another process writes it.
    AuditLogBroken
        If its last line is no line of an audit log.
    """

    def __init__(self, path: Path, *, sync: bool = True) -> None:
        if not path.parent.is_dir():
            raise InvalidInput(f"{path}: cannot be written: the folder is missing")
        self._path = path
        self._sync = sync
        self._threads = threading.Lock()
        # Beside the file, which may be moved away while it is written.
        self._processes = FileLock(path.parent / f".{path.name}.lock", timeout=0)
        try:
            self._processes.acquire()
            self._file = _open(path)
        except Timeout as error:
            raise InvalidInput(f"{path}: another server writes this audit log") from error
        except OSError as error:
            self._processes.release()
            raise InvalidInput(f"{path}: cannot be written: {error.strerror}") from error
        try:
            self._head, length = _end_of(path)
            # What a crash left behind the last line.
            os.ftruncate(self._file, length)
        except BaseException:
            self._release()
            raise
        logger.info("audit log: head %s", self._head)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Put everything on the disk and let others write."""
        with self._threads:
            os.fsync(self._file)
            self._release()
        logger.info("audit log: head %s", self._head)

    @property
    def head(self) -> Head:
        """The end of the log as it is now."""
        return self._head

    def append(self, **fields: str | int | None) -> None:
        """Write an entry: number, time, ``fields``, and the hash of the line before.

        Raises
        ------
        AuditLogFailed
            If it could not be written whole, as on a full disk; nothing of it stays.
        """
        with self._threads:
            entry: dict[str, Any] = {
                "n": self._head.count + 1,
                "time": utc_now().isoformat(timespec="milliseconds"),
                **fields,
                "previous": self._head.hash,
            }
            line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
            try:
                self._follow_a_moved_file()
                self._write(line)
            except OSError as error:
                raise AuditLogFailed(f"{self._path}: {error.strerror}") from error
            self._head = Head(self._head.count + 1, _hash_of(line))
            if self._head.count % ENTRIES_PER_TOLD_HEAD == 0:
                logger.info("audit log: head %s", self._head)

    def _write(self, line: bytes) -> None:
        before = os.fstat(self._file).st_size
        try:
            written = 0
            while written < len(line):
                written += os.write(self._file, line[written:])
            if self._sync:
                os.fsync(self._file)
        except OSError:
            # Half a line would make the next one unreadable.
            os.ftruncate(self._file, before)
            raise

    def _release(self) -> None:
        os.close(self._file)
        self._processes.release()

    def _follow_a_moved_file(self) -> None:
        try:
            moved = self._path.stat().st_ino != os.fstat(self._file).st_ino
        except FileNotFoundError:
            moved = True
        if moved:
            fresh = _open(self._path)
            os.close(self._file)
            self._file = fresh


def verify(paths: Sequence[Path], head: Head | None = None) -> tuple[Head, Head]:
    """Check a log, given as one file or as its parts in their order.

    Parameters
    ----------
    paths : sequence of Path
    head : Head, optional
        An end of this log as it was once, kept elsewhere: it has to be in the log still.

    Returns
    -------
    (Head, Head)
        What the first line builds on, which is ``Head()`` for a log from its beginning, and
        the end. Lines cut off the end are missed only if no ``head`` from after them is given.

    Raises
    ------
    InvalidInput
        If a file cannot be read.
    AuditLogBroken
        If a line was changed, removed or put in, or ``head`` is not in the log.
    """
    start: Head | None = None
    found = Head()
    head_seen = head is None or head == found
    for path in paths:
        for number, line in enumerate(_lines(path), 1):
            entry = _parsed(path, number, line)
            if start is None:
                start = found = Head(entry["n"] - 1, entry["previous"])
                head_seen = head_seen or start == head
            if (entry["n"], entry["previous"]) != (found.count + 1, found.hash):
                raise AuditLogBroken(
                    f"{path}: line {number} does not follow the one before it: something was"
                    " changed, removed or put in"
                )
            found = Head(entry["n"], _hash_of(line))
            head_seen = head_seen or found == head
    start = start or Head()
    if start.count == 0 and start.hash != NOTHING:
        raise AuditLogBroken(f"{paths[0]}: line 1 is no beginning: lines before it were removed")
    if head is not None and not head_seen:
        raise AuditLogBroken(
            f"{paths[-1]}: the head {head.count}:{head.hash[:12]}… is not in the log: lines were"
            " cut off or written anew"
        )
    return start, found


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, OWNER_ONLY)


def _end_of(path: Path) -> tuple[Head, int]:
    """Head and length in bytes of what is whole."""
    with path.open("rb") as stream:
        length = stream.seek(0, os.SEEK_END)
        start = max(0, length - 2 * MAX_LINE_BYTES)
        stream.seek(start)
        tail = stream.read()
    whole = tail[: tail.rfind(b"\n") + 1]
    if not whole:
        if start:
            raise AuditLogBroken(f"{path}: the end is no line of an audit log")
        return Head(), 0
    line = whole[whole.rfind(b"\n", 0, -1) + 1 :]
    return Head(_parsed(path, None, line)["n"], _hash_of(line)), start + len(whole)


def _lines(path: Path) -> Any:
    try:
        with path.open("rb") as stream:
            while line := stream.readline(MAX_LINE_BYTES):
                yield line
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read: {error.strerror}") from error


def _parsed(path: Path, number: int | None, line: bytes) -> dict[str, Any]:
    where = f"{path}: " + ("the last line" if number is None else f"line {number}")
    try:
        entry = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        entry = None
    if not (
        isinstance(entry, dict)
        and type(entry.get("n")) is int
        and isinstance(entry.get("previous"), str)
    ):
        raise AuditLogBroken(f"{where} is no whole line of an audit log")
    return entry


def _hash_of(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
