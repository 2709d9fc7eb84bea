"""One process at a time in a folder."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from veilseg.errors import Busy


@contextlib.contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Hold a lock file, which says who does.

    The kernel frees the lock however the process ends, so that no stale file stands in the way.

    Raises
    ------
    Busy
        If another process holds it.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"{lock.parent}: process {_owner(lock)} works there: nothing done") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
        file.truncate(0)


def running(lock: Path) -> str | None:
    """Id of the process that holds a lock file, or None."""
    if not lock.is_file():
        return None
    with lock.open(encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _owner(lock)
    return None


def _owner(lock: Path) -> str:
    return lock.read_text(encoding="ascii").strip() or "unknown"
