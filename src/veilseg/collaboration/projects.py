"""What the provider does: projects, and the sites that take part."""

import re
import time

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from veilseg.access.tokens import digest_of, issue
from veilseg.collaboration.errors import Conflict, Unauthorized, UnknownObject
from veilseg.collaboration.tables import (
    CLOSED,
    COMPLETE,
    LONGEST_NAME,
    OPEN,
    Contribution,
    Project,
    Shard,
    Site,
    Token,
)
from veilseg.contribution import PairFormat
from veilseg.errors import InvalidInput

NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
ROLE = "contribute"
GRACE_S = 3600


def create(session: Session, name: str, expected: PairFormat) -> Project:
    """Open a project.

    Raises
    ------
    InvalidInput
        If the name is none that fits a URL.
    Conflict
        If there is one of that name.
    """
    _require_name("project", name)
    if session.scalar(select(Project).where(Project.name == name)) is not None:
        raise Conflict(f"project {name}: exists already")
    project = Project(name=name, pair_format=expected.to_json(), created=now())
    session.add(project)
    session.flush()
    return project


def find(session: Session, name: str) -> Project:
    """A project by its name. Raises UnknownObject."""
    project = session.scalar(select(Project).where(Project.name == name))
    if project is None:
        raise UnknownObject(f"project {name}: there is none")
    return project


def close(session: Session, name: str, reopen: bool = False) -> None:
    """No more contributions, until it is opened again; withdrawing stays possible."""
    find(session, name).state = OPEN if reopen else CLOSED


def invite(session: Session, project: str, site: str, days: int) -> str:
    """Let a site take part, or give one that does another token.

    Returns
    -------
    str
        The token. Only its hash is kept: nobody can look it up again.

    Raises
    ------
    UnknownObject
        If there is no such project.
    InvalidInput
        If the site's name is none that fits a URL.
    """
    _require_name("site", site)
    owner = find(session, project)
    member = _site(session, owner, site)
    if member is None:
        member = Site(project_id=owner.id, name=site)
        session.add(member)
        session.flush()
    return _issued(session, member, days)


def rotated(session: Session, site: Site, token: str) -> str:
    """A new token in the place of all that a site had; they end within the hour.

    Not at once: were the answer lost on its way, the site would be left without any. The new one
    ends when the longest of them would have: how long a site takes part is the provider's to say.

    Raises
    ------
    Conflict
        If this token was replaced and its successor is in use: who rotates it now is not the one
        who did before.
    """
    latest = now() + GRACE_S
    tokens = session.scalars(select(Token).where(Token.site_id == site.id)).all()
    shown = next(one for one in tokens if one.digest == digest_of(token))
    if shown.replaced and any(one.used and not one.replaced for one in tokens):
        raise Conflict("the token was replaced, and the new one is in use")
    end = max(one.expires for one in tokens)
    for one in tokens:
        one.expires, one.replaced = min(one.expires, latest), True
    return _issued(session, site, 1, end)


def revoke(session: Session, project: str, site: str) -> int:
    """Take a site's tokens away; returns how many. What it contributed stays until withdrawn."""
    member = find_site(session, project, site)
    gone = session.execute(delete(Token).where(Token.site_id == member.id))
    return int(gone.rowcount)  # type: ignore[attr-defined]  # of a delete it is there


def find_site(session: Session, project: str, site: str) -> Site:
    """A member by its name. Raises UnknownObject."""
    member = _site(session, find(session, project), site)
    if member is None:
        raise UnknownObject(f"site {site}: takes no part in project {project}")
    return member


def authorised(session: Session, project: str, token: str | None) -> Site:
    """The site that a token is of.

    Raises
    ------
    Unauthorized
        If there is no such token, or it has expired.
    UnknownObject
        If it is of another project: that one exists is nobody else's business.
    """
    if not token:
        raise Unauthorized("a token is needed")
    known = session.scalar(select(Token).where(Token.digest == digest_of(token)))
    if known is None:
        raise Unauthorized("the token is not known here")
    if known.expires <= now():
        raise Unauthorized("the token has expired: ask the provider for another")
    if known.site.project.name != project:
        raise UnknownObject(f"project {project}: there is none")
    if not known.used:
        known.used = True
    return known.site


def expected_format(project: Project) -> PairFormat:
    """What pairs of a project look like."""
    return PairFormat.from_json(project.pair_format)


def summary(session: Session, project: Project) -> dict[str, object]:
    """What every member may know: nothing of any single site."""
    whole = (
        select(Contribution.id)
        .join(Site)
        .where(Site.project_id == project.id, Contribution.state == COMPLETE)
    )
    pairs = session.scalar(select(func.sum(Shard.pairs)).where(Shard.contribution_id.in_(whole)))
    return {
        "project": project.name,
        "state": project.state,
        "format": project.pair_format,
        "pairs": int(pairs or 0),
    }


def now() -> int:
    """Seconds since 1970."""
    return int(time.time())


def _issued(session: Session, site: Site, days: int, end: int | None = None) -> str:
    token, grant = issue(site.name, (ROLE,), days)
    expires = int(grant.expires.timestamp()) if end is None else end
    session.add(Token(site_id=site.id, digest=grant.digest, expires=expires))
    return token


def _site(session: Session, project: Project, name: str) -> Site | None:
    return session.scalar(select(Site).where(Site.project_id == project.id, Site.name == name))


def _require_name(what: str, name: str) -> None:
    if len(name) > LONGEST_NAME or not NAME.fullmatch(name):
        raise InvalidInput(
            f"{what} {name!r}: a name has small letters, digits, dots, dashes and underscores, "
            f"and at most {LONGEST_NAME} characters"
        )
