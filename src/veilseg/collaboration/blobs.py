"""Shards as files in a folder, or wherever fsspec reaches."""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from veilseg.collaboration.errors import StorageFull
from veilseg.errors import InvalidInput, MissingDependency, OutputNotWritable

FULL = {errno.ENOSPC, errno.EDQUOT}
PARTIAL = ".part"
ON_ITS_WAY_S = 3600


class Blobs:
    """Named contents under one root.

    Parameters
    ----------
    root : str
        A folder, or a URL that fsspec knows, as ``s3://bucket/folder``.

    Raises
    ------
    InvalidInput
        If it is none of these.
    MissingDependency
        If fsspec needs a package for it.
    """

    def __init__(self, root: str) -> None:
        try:
            self._files, self._root = fsspec.core.url_to_fs(root)
        except ImportError as error:
            raise MissingDependency(f"--blobs {root}: {error}") from error
        except ValueError as error:
            raise InvalidInput(f"--blobs {root}: {error}") from error

    def write(self, path: str, content: bytes) -> None:
        """Write whole or not at all.

        Raises
        ------
        StorageFull
            If there is no room.
        OutputNotWritable
            If it cannot be written for another reason.
        """
        target = self._at(path)
        partial = target + PARTIAL
        with _told():
            try:
                self._files.makedirs(self._files._parent(target), exist_ok=True)
                self._files.pipe_file(partial, content)
                self._files.mv(partial, target)
            except BaseException:
                with suppress(OSError):
                    self._files.rm_file(partial)
                raise

    def sizes(self, under: str) -> dict[str, int]:
        """Bytes of each content in a folder, by path."""
        found = self._files.find(self._at(under), detail=True)
        start = len(self._at(""))
        return {path[start:]: int(entry["size"]) for path, entry in found.items()}

    def read(self, path: str) -> bytes:
        """Raises FileNotFoundError if there is none."""
        content: bytes = self._files.cat_file(self._at(path))
        return content

    def delete(self, path: str) -> None:
        """Delete, if it is there."""
        with suppress(FileNotFoundError), _told():
            self._files.rm_file(self._at(path))

    def keep_only(self, wanted: Iterable[str], under: str) -> int:
        """Delete everything else in a folder; returns how many. For what was cut off half-way.

        What is newer than an hour is kept: it may just be on its way to be registered.
        """
        kept = {self._at(path) for path in wanted}
        latest = datetime.now(UTC) - timedelta(seconds=ON_ITS_WAY_S)
        gone = [
            path
            for path in self._files.find(self._at(under))
            if path not in kept and self._files.modified(path) < latest
        ]
        for path in gone:
            self._files.rm_file(path)
        return len(gone)

    def fetch(self, path: str, folder: Path) -> Path:
        """Where a content lies on this machine: where it is, or a copy in ``folder``."""
        if isinstance(self._files, LocalFileSystem):
            return Path(self._at(path))
        copy = folder / path.replace("/", "-")
        # Several processes fetch the same; none reads what another is still writing.
        partial = copy.with_name(f"{copy.name}.{os.getpid()}{PARTIAL}")
        self._files.get_file(self._at(path), str(partial))
        partial.replace(copy)
        return copy

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in FULL:
            raise StorageFull("store: no room for it") from error
        raise OutputNotWritable(f"store: cannot be written: {error.strerror}") from error
