"""A private folder for what lies on disk for a while, which no crash leaves behind for long."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from veilseg.errors import OutputNotWritable

PREFIX: Final = "veilseg-gateway-"
LOCK: Final = ".lock"
# Between making a folder and locking it another start must not take it for left behind.
YOUNG_S: Final = 60.0


@contextmanager
def work_folder(parent: Path | None) -> Iterator[Path]:
    """Make a folder that its owner alone may read, and delete it in the end.

    Those of processes that were killed are deleted now: nobody holds their lock.

    Raises
    ------
    OutputNotWritable
        If it cannot be made.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    try:
        _delete_left_behind(parent)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    except OSError as error:
        raise OutputNotWritable(f"{parent}: cannot be written: {error.strerror}") from error
    try:
        with FileLock(folder / LOCK):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _delete_left_behind(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}*"):
        status = folder.lstat()
        foreign = hasattr(os, "getuid") and status.st_uid != os.getuid()
        if folder.is_symlink() or foreign or time.time() - status.st_mtime < YOUNG_S:
            continue
        try:
            with FileLock(folder / LOCK, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
        except (Timeout, OSError):
            continue
