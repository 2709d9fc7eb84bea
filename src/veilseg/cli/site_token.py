"""By what a service knows this site: a file private to its user, or the environment."""

import os
from pathlib import Path

from veilseg.errors import InvalidInput, WrongUsage
from veilseg.vault.permissions import require_private

VARIABLE = "VEILSEG_TOKEN"


def read_token(file: Path | None) -> str:
    """The token; never an argument of a command, for those can be listed by others.

    Raises
    ------
    WrongUsage
        If none is given.
    InvalidInput
        If the file cannot be read or is empty.
    InvalidVault
        If others may read the file.
    """
    if file is None:
        token = os.environ.get(VARIABLE, "").strip()
        if not token:
            raise WrongUsage(f"--token-file: give the site's token, or set {VARIABLE}")
        return token
    try:
        require_private(file)
        token = file.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{file}: cannot be read: no token") from error
    if not token:
        raise InvalidInput(f"{file}: is empty: no token")
    return token
