"""The app on a socket."""

import logging
import signal
import socket
import time
from types import FrameType

from fastapi import FastAPI

from veilseg.serving.dataplane import DataPlane
from veilseg.serving.service import Limits, Service
from veilseg.serving.settings import Settings
from veilseg.serving.tls import ServerTls

logger = logging.getLogger(__name__)


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
    limits = Limits(
        settings.head_timeout_s,
        settings.max_head_bytes,
        settings.max_connections,
        settings.drain_s,
    )
    try:
        _Draining(app, plane, limits, tls).serve_on(listener)
    finally:
        plane.close()


class _Draining(Service):
    """Ends in steps: not ready, nothing more taken, what runs finished, gone."""

    def __init__(
        self, app: FastAPI, plane: DataPlane, limits: Limits, tls: ServerTls | None
    ) -> None:
        super().__init__(app, limits, tls)
        self._plane = plane
        self._drain_s = limits.drain_s
        self._end_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - theirs
        """On a signal; to stop listening at once would be told to nobody."""
        self.interrupted = self.interrupted or sig == signal.SIGINT
        if self._end_at is not None:
            self.should_exit = self.force_exit = True
            return
        logger.info("draining: %d request(s) to finish", self._plane.running)
        self._end_at = time.monotonic() + self._drain_s
        self._plane.drain()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to end."""
        if self._end_at is not None and (
            self._plane.running == 0 or time.monotonic() >= self._end_at
        ):
            self.should_exit = True
        return await super().on_tick(counter)
