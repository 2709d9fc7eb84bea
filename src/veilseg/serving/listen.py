"""The app on a socket."""

import logging
import math
import signal
import socket
import time
from types import FrameType
from typing import Final

import uvicorn
from fastapi import FastAPI

from veilseg.serving.dataplane import DataPlane
from veilseg.serving.heads import bounded_in_time
from veilseg.serving.settings import Settings
from veilseg.serving.tls import ServerTls

logger = logging.getLogger(__name__)

# A site prepares the next tile in this time without having to connect anew.
KEEP_ALIVE_S: Final = 30
# Every five seconds.
TLS_TICKS: Final = 50


def run(
    app: FastAPI,
    listener: socket.socket,
    plane: DataPlane,
    settings: Settings,
    tls: ServerTls | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then take nothing more and finish what runs.

    A second signal ends at once.

    Raises
    ------
    KeyboardInterrupt
        After SIGINT, when all is finished.
    """

    config = uvicorn.Config(
        app,
        http=bounded_in_time(settings.head_timeout_s),
        ws="none",
        lifespan="off",
        # Standard output belongs to the lines that scripts read, and logs to their own module.
        access_log=False,
        log_config=None,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(settings.drain_s),
        h11_max_incomplete_event_size=settings.max_head_bytes,
        limit_concurrency=settings.max_connections,
        # Nobody needs to know the software of a machine that takes medical images.
        server_header=False,
    )
    config.load()
    if tls is not None:
        config.ssl = tls.context
    server = _Server(config, plane, settings.drain_s, tls)
    server.run(sockets=[listener])
    plane.close()
    if server.interrupted:
        raise KeyboardInterrupt


class _Server(uvicorn.Server):
    """Ends in steps: not ready, nothing more taken, what runs finished, gone."""

    def __init__(
        self, config: uvicorn.Config, plane: DataPlane, drain_s: float, tls: ServerTls | None
    ) -> None:
        super().__init__(config)
        self._plane = plane
        self._drain_s = drain_s
        self._tls = tls
        self._end_at: float | None = None
        self.interrupted = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - theirs
        """On a signal; uvicorn's own would stop listening at once, and die of the signal."""
        self.interrupted = self.interrupted or sig == signal.SIGINT
        if self._end_at is not None:
            self.should_exit = self.force_exit = True
            return
        logger.info("draining: %d request(s) to finish", self._plane.running)
        self._end_at = time.monotonic() + self._drain_s
        self._plane.drain()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to end."""
        if self._tls is not None and counter % TLS_TICKS == 0:
            self._tls.refresh()
        if self._end_at is not None and (
            self._plane.running == 0 or time.monotonic() >= self._end_at
        ):
            self.should_exit = True
        return await super().on_tick(counter)
