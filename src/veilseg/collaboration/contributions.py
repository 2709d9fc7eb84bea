"""What a site may do with what it contributes; nothing here sees another site's."""

import hashlib
import logging
import re
from collections.abc import Collection
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from veilseg.collaboration.blobs import Blobs
from veilseg.collaboration.errors import Conflict, TooMuch, UnknownObject
from veilseg.collaboration.projects import expected_format, now
from veilseg.collaboration.tables import (
    COMPLETE,
    OPEN,
    RECEIVING,
    WITHDRAWN,
    Contribution,
    Shard,
    Site,
)
from veilseg.contribution import decode_shard
from veilseg.errors import InvalidInput, InvalidShard

logger = logging.getLogger(__name__)

KEY = re.compile(r"[0-9a-f]{32}")
MOST_SHARDS, MOST_PAIRS = 100_000, 10**9
FOLDER = "shards"


def begin(
    session: Session, site: Site, key: str, client_digest: str, shards: int, pairs: int
) -> Contribution:
    """Announce a contribution, or go on with one.

    Parameters
    ----------
    key : str
        32 hexadecimal digits that the site chose: the same for the same data and settings.
    client_digest : str
        Of the client half by which the site protects.
    shards, pairs : int
        How many there will be.

    Raises
    ------
    InvalidInput
        If the key or a number is none.
    Conflict
        If the project is closed, the site protects by another client half, announced something
        else under this key, or withdrew what is not deleted yet.
    """
    if not KEY.fullmatch(key):
        raise InvalidInput("contribution: its key has to be 32 hexadecimal digits")
    if not 1 <= shards <= MOST_SHARDS or not shards <= pairs <= MOST_PAIRS:
        raise InvalidInput(f"contribution: {shards} shards of {pairs} pairs are none")
    _require_open(site)
    if client_digest != expected_format(site.project).client_digest:
        raise Conflict(
            "client half: another one than the project's: encodings or mixtures of different "
            "bundles or keys do not fit together"
        )
    # One after the other: two at once would both announce it first.
    session.get(Site, site.id, with_for_update=True)
    found = _own(session, site, key)
    if found is None:
        found = Contribution(site_id=site.id, key=key, state=RECEIVING, created=now())
        session.add(found)
    elif found.state == WITHDRAWN:
        if found.shards:
            raise Conflict(
                f"contribution: was withdrawn, and {len(found.shards)} of its shards could not be "
                "deleted yet: withdraw it once more"
            )
        found.state, found.created = RECEIVING, now()
    elif (found.planned_shards, found.planned_pairs) != (shards, pairs):
        raise Conflict(
            f"contribution: announced as {found.planned_shards} shards of {found.planned_pairs} "
            f"pairs, now {shards} of {pairs}"
        )
    found.planned_shards, found.planned_pairs = shards, pairs
    session.flush()
    return found


def find(session: Session, site: Site, key: str) -> Contribution:
    """One of a site's own, locked until the transaction ends; UnknownObject for any other."""
    found = _own(session, site, key)
    if found is None:
        raise UnknownObject("contribution: there is none of that key")
    return found


def receive(
    session: Session,
    blobs: Blobs,
    site: Site,
    key: str,
    number: int,
    content: bytes,
    sha256: str,
    most_bytes: int | None = None,
) -> None:
    """Take a shard; a second time the same one changes nothing.

    ``most_bytes`` is what all shards of a site may take together.

    The content is written before it is registered: what a crash leaves in between is no shard.

    Raises
    ------
    UnknownObject
        If there is no such contribution.
    InvalidShard
        If what arrived is not what was sent, or is no shard of this project.
    Conflict
        If the project is closed, the contribution is complete or has fewer shards, or another
        content is there under this number.
    TooMuch
        If the site's shards would take more than they may.
    StorageFull, OutputNotWritable
        If it cannot be kept.
    """
    contribution = find(session, site, key)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise InvalidShard("shard: cut short or altered on its way: its SHA-256 is another")
    known = {shard.number: shard for shard in contribution.shards}
    if number in known:
        if known[number].sha256 != sha256:
            raise Conflict(f"shard {number}: is there with another content")
        if known[number].path not in _there(blobs, contribution):
            # Lost since: its site brings it back, or no fit could use the contribution any more.
            blobs.write(known[number].path, content)
        return
    _require_open(site)
    if contribution.state != RECEIVING:
        raise Conflict(f"contribution: is {contribution.state}; no more shards belong to it")
    if not 0 <= number < contribution.planned_shards:
        raise Conflict(f"shard {number}: {contribution.planned_shards} were announced")
    if most_bytes is not None and _bytes_of(session, site) + len(content) > most_bytes:
        raise TooMuch(f"site {site.name}: its shards may take {most_bytes:,} bytes together")
    proxies, _ = decode_shard(content, expected_format(site.project))
    path = f"{_folder(contribution)}/{number:06d}-{sha256[:16]}"
    blobs.write(path, content)
    session.add(
        Shard(
            contribution_id=contribution.id,
            number=number,
            sha256=sha256,
            size=len(content),
            pairs=len(proxies),
            path=path,
        )
    )
    session.flush()


def complete(session: Session, site: Site, key: str) -> Contribution:
    """Say that all is there; only then a fit uses it.

    Raises
    ------
    UnknownObject
        If there is no such contribution.
    Conflict
        If counts differ from those announced, or it was withdrawn.
    """
    contribution = find(session, site, key)
    if contribution.state == WITHDRAWN:
        raise Conflict("contribution: is withdrawn")
    shards, pairs = len(contribution.shards), sum(one.pairs for one in contribution.shards)
    planned = contribution.planned_shards, contribution.planned_pairs
    if (shards, pairs) != planned:
        raise Conflict(
            f"contribution: {shards} shards of {pairs} pairs are here, "
            f"{planned[0]} of {planned[1]} were announced"
        )
    contribution.state = COMPLETE
    return contribution


def listed(session: Session, site: Site) -> list[dict[str, Any]]:
    """A site's contributions, the newest first."""
    own = select(Contribution).where(Contribution.site_id == site.id)
    found = session.scalars(own.order_by(Contribution.created.desc(), Contribution.id.desc()))
    return [document(one) for one in found]


def announced(blobs: Blobs, contribution: Contribution) -> dict[str, Any]:
    """A contribution as its site goes on with it: what was lost since is not there."""
    there = _there(blobs, contribution)
    whole = {str(one.number): one.sha256 for one in contribution.shards if one.path in there}
    return document(contribution) | {"shards": whole}


def document(contribution: Contribution) -> dict[str, Any]:
    """A contribution as its site sees it."""
    return {
        "key": contribution.key,
        "state": contribution.state,
        "planned_shards": contribution.planned_shards,
        "planned_pairs": contribution.planned_pairs,
        "pairs": sum(shard.pairs for shard in contribution.shards),
        "bytes": sum(shard.size for shard in contribution.shards),
        "shards": {str(shard.number): shard.sha256 for shard in contribution.shards},
        "created": contribution.created,
    }


def _bytes_of(session: Session, site: Site) -> int:
    """Of all shards of a site, other than by one that is sent at this moment."""
    # One after the other: two at once would both be the last that fits.
    session.get(Site, site.id, with_for_update=True)
    own = select(func.sum(Shard.size)).join(Contribution).where(Contribution.site_id == site.id)
    return int(session.scalar(own) or 0)


def _folder(contribution: Contribution) -> str:
    site = contribution.site
    return f"{FOLDER}/{site.project_id}/{site.id}/{contribution.id}"


def _there(blobs: Blobs, contribution: Contribution) -> Collection[str]:
    """Paths of its shards whose content is there, as long as it was."""
    sizes = blobs.sizes(_folder(contribution))
    return {one.path for one in contribution.shards if sizes.get(one.path) == one.size}


def _own(session: Session, site: Site, key: str) -> Contribution | None:
    return session.scalar(
        select(Contribution)
        .where(Contribution.site_id == site.id, Contribution.key == key)
        .with_for_update()
    )


def _require_open(site: Site) -> None:
    if site.project.state != OPEN:
        raise Conflict(f"project {site.project.name}: is closed; nothing can be contributed")
