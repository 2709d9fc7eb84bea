"""Files that only their owner may read."""

import os
import stat
from pathlib import Path

from veilseg.errors import InvalidVault

OWNER_ONLY_FOLDER = 0o700
OWNER_ONLY_FILE = 0o600
OTHERS = 0o077


def require_private(path: Path) -> None:
    """Refuse a file or folder that group or others may touch.

    Where the system has no POSIX modes (Windows) the folder's ACL rules, which a user's profile
    keeps private by default; nothing is checked there.

    Raises
    ------
    InvalidVault
        If the mode grants anything to group or others; the message says how to mend it.
    """
    if os.name != "posix":
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & OTHERS:
        wanted = OWNER_ONLY_FOLDER if path.is_dir() else OWNER_ONLY_FILE
        raise InvalidVault(
            f"{path}: open to others (mode {mode:o}); whoever reads it can undo the protection: "
            f"chmod {wanted:o} it"
        )


def write_private(path: Path, content: bytes) -> None:
    """Create a file that is private from its first moment; fails if it exists."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY_FILE)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        path.unlink(missing_ok=True)  # half of a secret is none
        raise
