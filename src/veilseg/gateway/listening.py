"""The gateway on a socket."""

import math
import signal
import socket
from types import FrameType
from typing import Final

import uvicorn
from fastapi import FastAPI

from veilseg.gateway.settings import Settings
from veilseg.serving.heads import bounded_in_time
from veilseg.serving.tls import ServerTls

KEEP_ALIVE_S: Final = 30


def run(
    app: FastAPI, listener: socket.socket, settings: Settings, tls: ServerTls | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what runs.

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
        # Standard output belongs to the lines that scripts read; paths name patients.
        access_log=False,
        log_config=None,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(settings.drain_s),
        h11_max_incomplete_event_size=settings.head_bytes,
        limit_concurrency=settings.connections,
        server_header=False,
    )
    config.load()
    if tls is not None:
        config.ssl = tls.context
    server = _Server(config)
    server.run(sockets=[listener])
    if server.interrupted:
        raise KeyboardInterrupt


class _Server(uvicorn.Server):
    """Ends by itself after a signal; uvicorn would then die of it, and leave uploads behind."""

    interrupted = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - theirs
        """On a signal; a second one ends at once."""
        self.interrupted = self.interrupted or sig == signal.SIGINT
        self.force_exit = self.should_exit
        self.should_exit = True
