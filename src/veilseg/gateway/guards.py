"""Pages of others that a browser on this machine may have open."""

from collections.abc import Sequence
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from veilseg.gateway.http_errors import refusal

LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class OwnPagesOnly:
    """Refuses what the pages of other sites send, unless they are let in.

    A browser lets any page send forms to any address, this machine's too. And a page whose own
    name is made to mean this machine would even read the answers: where no token is asked for,
    the gateway answers to this machine's own names only.

    Parameters
    ----------
    app : ASGIApp
    origins : sequence of str
        Let in.
    local : bool
        Whether no token is asked for.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str], local: bool) -> None:
        self._app = app
        self._origins = frozenset(origins)
        self._local = local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on."""
        if scope["type"] == "http" and (reason := self._reason(scope)):
            await refusal(reason, 403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _reason(self, scope: Scope) -> str | None:
        url = HTTPConnection(scope).base_url
        if self._local and url.hostname not in LOCAL_NAMES:
            return "host: this gateway answers to this machine's own names only"
        origin = Headers(scope=scope).get("origin")
        own = f"{url.scheme}://{url.netloc}"
        if origin is not None and origin != own and origin not in self._origins:
            return "origin: this page may not ask here; let it in with --cors"
        return None
