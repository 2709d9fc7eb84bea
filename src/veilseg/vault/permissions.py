"""Files that only their owner may read."""

import os
from pathlib import Path

from veilseg.errors import InvalidVault
from veilseg.files import mode_open_to_others

OWNER_ONLY_FOLDER = 0o700
OWNER_ONLY_FILE = 0o600


def require_private(path: Path) -> None:
    """Refuse a file or folder that group or others may touch.

    Raises
    ------
    InvalidVault
        If the mode grants anything to group or others; the message says how to mend it.
    """
    mode = mode_open_to_others(path)
    if mode is not None:
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
