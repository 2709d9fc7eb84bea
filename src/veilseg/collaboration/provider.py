"""Where a provider keeps its collaborations."""

from dataclasses import dataclass
from pathlib import Path

from veilseg.collaboration.blobs import Blobs
from veilseg.collaboration.database import Database
from veilseg.collaboration.versions import Versions


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
