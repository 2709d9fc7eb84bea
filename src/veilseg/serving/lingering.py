"""Refusals that reach a client which is still sending."""

from collections.abc import Callable
from typing import Final

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# The body is too slow or too large; waiting for the rest of it is what was refused.
_AT_ONCE: Final = frozenset({408, 413})
# What these announce means nothing, and with some clients it never comes.
_WITHOUT_BODY: Final = frozenset({"GET", "HEAD"})


class Lingering:
    """Takes in, and forgets, the rest of a body whose request is answered before its end.

    Else the line would be closed while bytes arrive, which resets it, and some systems then drop
    the answer unread: a client would take a full queue (429) for a broken line. The connection
    lives on, too, without another handshake. A body that is announced as larger than ``limit``, or
    that waits to be asked for, is not waited for.

    Parameters
    ----------
    app : ASGIApp
    limit : callable
        Bytes of the largest body that is worth waiting for.
    timeout_s : float
    """

    def __init__(self, app: ASGIApp, limit: Callable[[], int], timeout_s: float) -> None:
        self._app = app
        self._limit = limit
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on."""
        awaited = scope["type"] == "http" and scope["method"] not in _WITHOUT_BODY
        if not awaited or not self._is_awaited(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        ended, taken = False, 0

        async def counted() -> Message:
            nonlocal ended, taken
            message = await receive()
            ended = not message.get("more_body", False)
            taken += len(message.get("body", b""))
            return message

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] not in _AT_ONCE:
                with anyio.move_on_after(self._timeout_s):
                    while not ended and taken <= self._limit():
                        await counted()
            await send(message)

        await self._app(scope, counted, answer)

    def _is_awaited(self, headers: Headers) -> bool:
        declared = headers.get("content-length", "")
        announced = "transfer-encoding" in headers or declared not in ("", "0")
        too_large = declared.isdecimal() and int(declared) > self._limit()
        return announced and not too_large and "expect" not in headers
