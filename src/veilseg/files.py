"""Writing results so that a reader never meets half of one."""

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from veilseg.errors import OutputNotWritable

OTHERS = 0o077


@contextlib.contextmanager
def written_whole(target: Path, *, private: bool = False) -> Iterator[Path]:
    """Give a temporary path beside ``target`` and move it there when the block succeeds.

    The temporary name keeps the target's suffixes, since NIfTI writers choose their
    format by them. If the block fails or is interrupted, nothing is left behind. A ``private``
    file can be read by its owner only, from its first moment.

    Raises
    ------
    OutputNotWritable
        If the folder is missing or does not take a file.
    """
    suffixes = "".join(target.suffixes[-2:])
    try:
        handle, name = tempfile.mkstemp(suffix=suffixes, prefix=".veilseg-", dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise OutputNotWritable(f"{target}: cannot be written: {error.strerror}") from error
    temporary = Path(name)
    try:
        yield temporary
        if not private:
            # mkstemp makes files private; a result gets what the umask gives any other file.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
        temporary.replace(target)
    except OSError as error:
        raise OutputNotWritable(f"{target}: cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text_whole(target: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with written_whole(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def mode_open_to_others(path: Path) -> int | None:
    """Mode of a file or folder that group or others may touch; None if it is private.

    Where the system has no POSIX modes (Windows) the folder's ACL rules, which a user's profile
    keeps private by default; nothing is checked there.
    """
    if os.name != "posix":
        return None
    mode = stat.S_IMODE(path.stat().st_mode)
    return mode if mode & OTHERS else None
