"""What a connection may cost in size and time, which a web framework never hears of."""

import asyncio

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from veilseg.serving.http_errors import refusal


class BoundedHead:
    """Refuses heads that came whole and are too long; of those in parts h11 takes no more."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on."""
        fields = scope.get("headers", [])
        size = sum(len(name) + len(value) for name, value in fields) + len(scope.get("path", ""))
        if size > self._max_bytes:
            await refusal("the request's head is too long", 431)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def bounded_in_time(timeout_s: float, unread_s: float) -> type[H11Protocol]:
    """A protocol that gives up connections that take too long.

    Parameters
    ----------
    timeout_s : float
        For a head to come to its end.
    unread_s : float
        For an answer to be read, once its reader has fallen behind: it is held as long.
    """

    class Timed(H11Protocol):
        _unread: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._late = self.loop.call_later(timeout_s, transport.close)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.their_state is not h11.IDLE:
                self._late.cancel()
            elif self._late.cancelled():
                # The first bytes of the next head.
                self._late = self.loop.call_later(timeout_s, self.transport.close)

        def pause_writing(self) -> None:
            super().pause_writing()
            # Closing would wait for what is unread to be read.
            self._unread = self.loop.call_later(unread_s, self.transport.abort)

        def resume_writing(self) -> None:
            self._read()
            super().resume_writing()

        def connection_lost(self, exc: Exception | None) -> None:
            self._late.cancel()
            self._read()
            super().connection_lost(exc)

        def _read(self) -> None:
            if self._unread is not None:
                self._unread.cancel()
                self._unread = None

    return Timed
