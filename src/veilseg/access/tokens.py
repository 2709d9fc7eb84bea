"""Bearer tokens: made once, kept as hashes, checked in constant time."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

from veilseg.access.errors import NotAuthenticated, NotPermitted
from veilseg.errors import InvalidInput

# A fixed beginning lets scanners for leaked secrets recognise a token.
PREFIX: Final = "veilseg"
ID_BYTES: Final = 6
SECRET_BYTES: Final = 32
LONGEST_DAYS: Final = 3650

SITE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
ROLE: Final = re.compile(r"[a-z][a-z-]{0,31}")
_TOKEN: Final = re.compile(rf"{PREFIX}_([0-9a-f]{{{2 * ID_BYTES}}})_[A-Za-z0-9_-]{{43}}")


@dataclass(frozen=True)
class Grant:
    """What a token allows, without the token.

    Attributes
    ----------
    id : str
        Public part of the token, by which people name it.
    site : str
        Who holds it.
    roles : tuple of str
    digest : str
        SHA-256 of the whole token, in hexadecimal.
    issued, expires : datetime
        In UTC.
    revoked : bool
    """

    id: str
    site: str
    roles: tuple[str, ...]
    digest: str
    issued: datetime
    expires: datetime
    revoked: bool = False

    def __post_init__(self) -> None:
        if not SITE.fullmatch(self.site):
            raise InvalidInput(
                f"site: {self.site!r} is no name of up to 64 letters, digits, dots and dashes"
            )
        if not self.roles or not all(ROLE.fullmatch(role) for role in self.roles):
            raise InvalidInput(f"roles: {list(self.roles)} are no lower-case names")
        if self.issued.tzinfo is None or self.expires.tzinfo is None:
            raise InvalidInput("issued, expires: a time without its zone")

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Build from parsed JSON; raises KeyError, TypeError, ValueError or InvalidInput."""
        times = {name: datetime.fromisoformat(fields[name]) for name in ("issued", "expires")}
        known = {**fields, **times, "roles": tuple(fields["roles"])}
        for name in ("id", "site", "digest"):
            if not isinstance(known[name], str):
                raise TypeError(f"{name} is no text")
        if not isinstance(fields["roles"], list):
            raise TypeError("roles is no list")
        if not isinstance(known.get("revoked", False), bool):
            raise TypeError("revoked is neither true nor false")
        return cls(**known)

    def to_json(self) -> dict[str, Any]:
        """The fields, ready for ``json.dumps``."""
        times = {"issued": self.issued.isoformat(), "expires": self.expires.isoformat()}
        return {**asdict(self), **times, "roles": list(self.roles)}

    def state(self, now: datetime) -> str:
        """``valid``, ``revoked`` or ``expired``."""
        if self.revoked:
            return "revoked"
        return "valid" if now < self.expires else "expired"


def issue(
    site: str, roles: Iterable[str], days: float, now: datetime | None = None
) -> tuple[str, Grant]:
    """Make a token.

    Parameters
    ----------
    site : str
        Who will hold it: letters, digits, dots and dashes.
    roles : iterable of str
    days : float
        How long it is valid.
    now : datetime, optional
        In UTC; by default the clock's.

    Returns
    -------
    (str, Grant)
        The token, to be given to its holder and to be forgotten; and what to keep of it.

    Raises
    ------
    InvalidInput
        If the site or a role is no name, or the days are not positive and at most 3650.
    """
    if not 0 < days <= LONGEST_DAYS:
        raise InvalidInput(f"days: {days} is not between 0 and {LONGEST_DAYS}")
    now = (now or utc_now()).replace(microsecond=0)
    name = secrets.token_hex(ID_BYTES)
    token = f"{PREFIX}_{name}_{secrets.token_urlsafe(SECRET_BYTES)}"
    kept = Grant(
        name, site, tuple(sorted(set(roles))), digest_of(token), now, now + timedelta(days=days)
    )
    return token, kept


def successor(
    old: Grant, grace_hours: float, now: datetime | None = None
) -> tuple[str, Grant, Grant]:
    """A new token in place of one that ends soon.

    Parameters
    ----------
    old : Grant
    grace_hours : float
        For so long the old token stays valid, so that its holder can change over.

    Returns
    -------
    (str, Grant, Grant)
        The new token, what to keep of it, and the old grant with its new end.

    Raises
    ------
    InvalidInput
        If the old one is not valid any more, or the hours are negative or longer than any token.
    """
    now = (now or utc_now()).replace(microsecond=0)
    if old.state(now) != "valid":
        raise InvalidInput(f"token {old.id} is {old.state(now)}: issue a new one")
    if grace_hours < 0:
        raise InvalidInput(f"grace_hours: {grace_hours} is negative")
    if not grace_hours <= 24 * LONGEST_DAYS:
        raise InvalidInput(f"grace_hours: {grace_hours} is more than {24 * LONGEST_DAYS}")
    token, new = issue(old.site, old.roles, (old.expires - old.issued) / timedelta(days=1), now)
    return token, new, replace(old, expires=min(old.expires, now + timedelta(hours=grace_hours)))


def digest_of(token: str) -> str:
    """What is kept of a token.

    SHA-256, and no slow hash: slowness makes guessing a *password* dear, and a token has 256
    bits from the system's generator, which nobody guesses at any speed. A slow hash here would
    only let strangers keep the server busy with wrong tokens.
    """
    return hashlib.sha256(token.encode()).hexdigest()


def grant_of(token: str, grants: Mapping[str, Grant], now: datetime | None = None) -> Grant:
    """The grant of a token that somebody presents.

    Parameters
    ----------
    token : str
        As it came, from anybody.
    grants : mapping of id to Grant

    Raises
    ------
    NotAuthenticated
        If it is unknown, revoked or expired. Which of the last two is told only to who holds
        the very token.
    """
    found = _TOKEN.fullmatch(token)
    grant = grants.get(found[1]) if found else None
    # The digests are compared in constant time, also where there is none to compare with.
    expected = grant.digest if grant else digest_of("")
    same = hmac.compare_digest(digest_of(token).encode(), expected.encode())
    if grant is None or not same:
        raise NotAuthenticated("the token is unknown")
    state = grant.state(now or utc_now())
    if state != "valid":
        raise NotAuthenticated(f"the token is {state}")
    return grant


def require_role(held: Collection[str], *wanted: str) -> None:
    """Raise :class:`NotPermitted` unless one of the wanted roles is held."""
    if not set(held) & set(wanted):
        raise NotPermitted(f"this needs the role {' or '.join(wanted)}")


def utc_now() -> datetime:
    """The clock's time in UTC."""
    return datetime.now(UTC)
