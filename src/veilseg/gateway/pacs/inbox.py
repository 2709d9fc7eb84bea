"""Series that were received, on disk: a folder each, named by nothing that says whose they are."""

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from veilseg.files import written_whole
from veilseg.gateway.pacs.series import FoundSeries
from veilseg.gateway.pacs.state import synced

ABOUT: Final = "about.json"
DIGITS: Final = 32
# But for what is being written.
IMAGES: Final = "[!.]*.dcm"


class Inbox:
    """Used by any number of threads.

    Parameters
    ----------
    folder : Path
        Private.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._bytes = sum(map(_size, folder.glob(f"*/{IMAGES}")))

    def keep(
        self,
        study: str,
        series: str,
        instance: str,
        attributes: Mapping[str, str],
        content: bytes,
    ) -> None:
        """Write an object so that a crash does not lose it.

        The same again takes the place of itself: senders repeat what was not confirmed.
        """
        folder = self.of(series)
        with self._lock:
            folder.mkdir(mode=0o700, exist_ok=True)
            if not (folder / ABOUT).exists():
                about = {"study": study, "series": series, "attributes": dict(attributes)}
                _write(folder / ABOUT, json.dumps(about).encode())
        file = folder / f"{_hashed(instance)}.dcm"
        with self._lock:
            self._bytes += len(content) - _size(file)
        _write(file, content)

    def of(self, series: str) -> Path:
        """Where a series lies."""
        return self._folder / _hashed(series)

    def found(self) -> Iterator[FoundSeries]:
        """What is there now."""
        for about in sorted(self._folder.glob(f"*/{ABOUT}")):
            fields = json.loads(about.read_text(encoding="utf-8"))
            images = sum(1 for _ in about.parent.glob(IMAGES))
            yield FoundSeries(fields["study"], fields["series"], images, fields["attributes"])

    def forget(self, series: str) -> None:
        """Delete a series."""
        folder = self.of(series)
        with self._lock:
            self._bytes -= sum(map(_size, folder.glob(IMAGES)))
            shutil.rmtree(folder, ignore_errors=True)

    def size(self) -> int:
        """Bytes of all that is kept."""
        return self._bytes


def _size(file: Path) -> int:
    """Bytes; none of what is not there, or not any more."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _write(path: Path, content: bytes) -> None:
    with written_whole(path, private=True) as temporary:
        temporary.write_bytes(content)
    synced(path)


def _hashed(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()[:DIGITS]
