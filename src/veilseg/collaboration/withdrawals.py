"""What a site takes back: out of all fits at once, and known until its content is deleted."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from veilseg.collaboration.blobs import Blobs
from veilseg.collaboration.contributions import FOLDER, find
from veilseg.collaboration.database import Database
from veilseg.collaboration.tables import WITHDRAWN, Contribution, Shard, Site
from veilseg.errors import VeilsegError

logger = logging.getLogger(__name__)


class TakenBack(NamedTuple):
    """A shard that is withdrawn, until its content is deleted."""

    shard: int
    path: str


def withdraw(session: Session, site: Site, key: str) -> list[TakenBack]:
    """Take a contribution out of all fits to come.

    Returns
    -------
    list of TakenBack
        What has to be deleted once this transaction is through: :func:`delete_shards`. Each is
        known until its content is gone: whoever asks once more gets the rest deleted.

    Raises
    ------
    UnknownObject
        If there is no such contribution.
    """
    contribution = find(session, site, key)
    contribution.state = WITHDRAWN
    session.flush()
    return [TakenBack(shard.id, shard.path) for shard in contribution.shards]


def withdraw_all(session: Session, site: Site) -> list[TakenBack]:
    """All of a site's contributions; as :func:`withdraw`."""
    keys = session.scalars(select(Contribution.key).where(Contribution.site_id == site.id)).all()
    return [shard for key in keys for shard in withdraw(session, site, key)]


def delete_shards(database: Database, blobs: Blobs, shards: Sequence[TakenBack]) -> int:
    """Delete what was withdrawn; returns how many are gone. The others stay known."""
    gone = []
    for shard in shards:
        try:
            blobs.delete(shard.path)
            gone.append(shard.shard)
        except VeilsegError as error:
            # No fit uses it any more; the site is told that it is not deleted yet.
            logger.error("a withdrawn shard is still there: %s", error)
    with database.session() as session:
        session.execute(delete(Shard).where(Shard.id.in_(gone)))
    return len(gone)


def sweep(database: Database, blobs: Blobs) -> int:
    """Delete what crashes left: contents that no shard has, and what is withdrawn.

    Returns
    -------
    int
        How many there were.
    """
    with database.session() as session:
        taken_back = select(Shard).join(Contribution).where(Contribution.state == WITHDRAWN)
        shards = [TakenBack(one.id, one.path) for one in session.scalars(taken_back)]
    gone = delete_shards(database, blobs, shards)
    with database.session() as session:
        return gone + blobs.keep_only(session.scalars(select(Shard.path)), FOLDER)
