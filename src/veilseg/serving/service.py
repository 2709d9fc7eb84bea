"""A service on a socket: how uvicorn is set up and how it ends, whatever it serves."""

import math
import signal
import socket
from dataclasses import dataclass
from types import FrameType
from typing import Final

import uvicorn
from fastapi import FastAPI

from veilseg.serving.heads import bounded_in_time
from veilseg.serving.tls import ServerTls

# Ticks come ten times a second; a certificate is looked at every five seconds.
TLS_TICKS: Final = 50


@dataclass(frozen=True)
class Limits:
    """What a client may cost.

    Attributes
    ----------
    head_timeout_s : float
        For the head of a request.
    head_bytes : int
    connections : int
        More are refused with status 503.
    drain_s : float
        How long requests that run may go on after a signal.
    keep_alive_s : int
        A client prepares its next request in this time without having to connect anew.
    unread_s : float
        For an answer to be read, once its reader has fallen behind.
    """

    head_timeout_s: float = 20.0
    head_bytes: int = 16384
    connections: int = 1000
    drain_s: float = 60.0
    keep_alive_s: int = 30
    unread_s: float = 300.0


class Service(uvicorn.Server):
    """Ends by itself after a signal: uvicorn would then die of it, and leave work behind.

    Parameters
    ----------
    app : FastAPI
    limits : Limits
    tls : ServerTls or None
        A renewed certificate is taken while it runs.
    """

    def __init__(self, app: FastAPI, limits: Limits, tls: ServerTls | None) -> None:
        config = uvicorn.Config(
            app,
            http=bounded_in_time(limits.head_timeout_s, limits.unread_s),
            ws="none",
            lifespan="off",
            # Standard output belongs to the lines that scripts read; paths may name patients.
            access_log=False,
            log_config=None,
            timeout_keep_alive=limits.keep_alive_s,
            timeout_graceful_shutdown=math.ceil(limits.drain_s),
            h11_max_incomplete_event_size=limits.head_bytes,
            limit_concurrency=limits.connections,
            # Nobody needs to know the software of a machine that takes medical images.
            server_header=False,
        )
        config.load()
        if tls is not None:
            config.ssl = tls.context
        super().__init__(config)
        self.interrupted = False
        self._tls = tls

    def serve_on(self, listener: socket.socket) -> None:
        """Serve until SIGTERM or SIGINT, then finish what runs; a second signal ends at once.

        Raises
        ------
        KeyboardInterrupt
            After SIGINT, when all is finished.
        """
        self.run(sockets=[listener])
        if self.interrupted:
            raise KeyboardInterrupt

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - theirs
        """On a signal."""
        self.interrupted = self.interrupted or sig == signal.SIGINT
        self.force_exit = self.should_exit
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to end."""
        if self._tls is not None and counter % TLS_TICKS == 0:
            self._tls.refresh()
        return await super().on_tick(counter)
