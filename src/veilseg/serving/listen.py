"""The app on a socket."""

import socket

import uvicorn
from fastapi import FastAPI

from veilseg.errors import InvalidInput

# A site prepares the next tile in this time without having to connect anew.
KEEP_ALIVE_S = 30


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; connections wait in it until :func:`run` takes them.

    Parameters
    ----------
    host : str
        Name or address of an interface of this machine.
    port : int
        0 for any free one.

    Raises
    ------
    InvalidInput
        If the port is taken, or the host or port is not one of this machine.
    """
    # The C library would take the remainder to 65536 for a port.
    if not 0 <= port < 65536:
        raise InvalidInput(f"cannot listen on {host}:{port}: ports end at 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            # A server started again must not wait for the last one's connections to time out.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen()
        except BaseException:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInput(f"cannot listen on {host}:{port}: {reason}") from error
    return listener


def url_of(listener: socket.socket) -> str:
    """The URL under which a bound socket is reached."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(app: FastAPI, listener: socket.socket) -> None:
    """Serve until interrupted (SIGINT or SIGTERM), then finish what runs."""
    config = uvicorn.Config(
        app,
        # Standard output belongs to the lines that scripts read.
        access_log=False,
        log_level="warning",
        timeout_keep_alive=KEEP_ALIVE_S,
        # Nobody needs to know the software of a machine that takes medical images.
        server_header=False,
    )
    uvicorn.Server(config).run(sockets=[listener])
