"""Where a provider keeps its collaborations."""

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import select

from veilseg.collaboration.blobs import Blobs
from veilseg.collaboration.database import Database
from veilseg.collaboration.tables import Store
from veilseg.collaboration.versions import Versions
from veilseg.errors import InvalidInput

STORE_FILE: Final = "veilseg-store"


@dataclass(frozen=True)
class Provider:
    """What all of a provider's commands work on.

    Attributes
    ----------
    database : Database
        Who contributed what.
    blobs : Blobs
        The shards.
    versions : Versions
        What was fitted.
    work : Path
        Checkpoints of fits.
    """

    database: Database
    blobs: Blobs
    versions: Versions
    work: Path

    def require_own_blobs(self) -> None:
        """Make database and blobs known to each other, once, or see that they are.

        Raises
        ------
        InvalidInput
            If one of them belongs to another: what a database does not know is deleted.
        """
        with self.database.session() as session:
            known = session.scalar(select(Store.name))
            try:
                found = self.blobs.read(STORE_FILE).decode("ascii", "replace")
            except FileNotFoundError:
                found = None
            if known is None and found is None:
                name = secrets.token_hex(16)
                session.add(Store(name=name))
                self.blobs.write(STORE_FILE, name.encode("ascii"))
            elif known != found:
                raise InvalidInput(
                    "--database, --blobs: they do not belong together; give those that the project "
                    "was created with"
                )
