"""One log line and one count for every request, and the id that both and the client share."""

import logging
import re
import time
import uuid
from typing import Any, Final, Protocol

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from veilseg.serving.logs import FIELDS, request_id

logger = logging.getLogger(__name__)

REQUEST_ID: Final = "X-Request-ID"
# What is echoed and logged must neither break a line nor say much.
_SOUND_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Asked for every few seconds by whatever watches a server.
_QUIET: Final = ("/v2/health/live", "/v2/health/ready", "/metrics")


# What the app notes of a request for inference.
_NOTED: Final = ("site", "model", "version", "tiles", "bytes", "compute_seconds")


class Counts(Protocol):
    """What counts requests."""

    def request(self, route: str, site: str, status: int, seconds: float) -> None:
        """Count one that was answered."""


class Observed:
    """Gives each request an id; logs and counts how it ended.

    A log line holds route, status, duration, site and, of a request for inference, model, tiles
    and bytes: no address, path or header as it came, no data.

    Parameters
    ----------
    app : ASGIApp
    metrics : Counts, optional
    """

    def __init__(self, app: ASGIApp, metrics: Counts | None = None) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        identifier = given if _SOUND_ID.fullmatch(given) else uuid.uuid4().hex
        request_id.set(identifier)
        status = 500
        begun = time.perf_counter()

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = identifier
            await send(message)

        try:
            await self._app(scope, receive, answer)
        finally:
            self._tell(scope, status, time.perf_counter() - begun)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        # Of a path that is no route nothing is told: it may hold anything.
        route = getattr(scope.get("route"), "path", "none")
        state: dict[str, Any] = scope.get("state", {})
        if self._metrics is not None:
            self._metrics.request(route, state.get("site", ""), status, seconds)
        fields: dict[str, Any] = {"route": route, "status": status, "seconds": round(seconds, 4)}
        fields |= {name: state[name] for name in _NOTED if name in state}
        level = logging.DEBUG if route in _QUIET and status < 500 else logging.INFO
        logger.log(level, "answered", extra={FIELDS: fields})
