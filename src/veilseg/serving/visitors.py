"""Who asks, by the token that came along."""

from dataclasses import dataclass
from typing import Final

from veilseg.access.errors import NotAuthenticated
from veilseg.access.token_file import TokenFile
from veilseg.access.tokens import require_role

INFER: Final = "infer"
METRICS: Final = "metrics"
ADMIN: Final = "admin"

_SCHEME: Final = "bearer"


@dataclass(frozen=True)
class Visitor:
    """Who asks.

    Attributes
    ----------
    site : str
    token_id : str, optional
        The public part of the token.
    roles : tuple of str
    """

    site: str
    token_id: str | None
    roles: tuple[str, ...]

    def require(self, *roles: str) -> None:
        """Raise :class:`~veilseg.access.errors.NotPermitted` without any of these roles."""
        require_role(self.roles, *roles)


# A server without tokens lets everybody use its models and nobody change them.
ANONYMOUS: Final = Visitor("anonymous", None, (INFER, METRICS))


def visitor_of(authorization: str | None, tokens: TokenFile | None) -> Visitor:
    """Who asks, by the ``Authorization`` header.

    Parameters
    ----------
    authorization : str, optional
    tokens : TokenFile, optional
        Without one, everybody is :data:`ANONYMOUS`.

    Raises
    ------
    NotAuthenticated
        If there is no token, or none that is valid now.
    """
    if tokens is None:
        return ANONYMOUS
    scheme, _, token = (authorization or "").strip().partition(" ")
    if scheme.lower() != _SCHEME or not token.strip():
        raise NotAuthenticated("a token is needed: Authorization: Bearer TOKEN")
    grant = tokens.grant_of(token.strip())
    return Visitor(grant.site, grant.id, grant.roles)
