"""The API for sites on a socket."""

import ipaddress
import socket
from typing import Final

import uvicorn
from fastapi import FastAPI

from veilseg.errors import WrongUsage
from veilseg.serving.tls import ServerTls

# A site prepares the next shard in this time without having to connect anew.
KEEP_ALIVE_S: Final = 60
# A shard that is being written when the service is told to end still gets its answer.
DRAIN_S: Final = 30


def require_guarded(listener: socket.socket, tls: ServerTls | None) -> None:
    """Refuse to let tokens and shards pass other machines unprotected.

    Raises
    ------
    WrongUsage
        If other machines reach the socket without TLS.
    """
    host = listener.getsockname()[0]
    if tls is None and not ipaddress.ip_address(host).is_loopback:
        raise WrongUsage(
            f"--host {host}: other machines reach it: give --tls-cert and --tls-key, or "
            "--insecure behind a proxy that has them"
        )


def run(app: FastAPI, listener: socket.socket, tls: ServerTls | None) -> None:
    """Serve until SIGTERM or SIGINT, then finish what runs."""
    config = uvicorn.Config(
        app,
        ws="none",
        lifespan="off",
        # Standard output belongs to the lines that scripts read.
        access_log=False,
        log_level="warning",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
        server_header=False,
    )
    config.load()
    if tls is not None:
        config.ssl = tls.context
    uvicorn.Server(config).run(sockets=[listener])
