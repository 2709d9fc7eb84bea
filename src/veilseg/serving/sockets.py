"""Sockets to listen on, and who may reach them. For every service, whatever it serves."""

import ipaddress
import socket
from collections.abc import Mapping

from veilseg.errors import InvalidInput, WrongUsage


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; connections wait in it until a server takes them.

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


def url_of(listener: socket.socket, *, tls: bool = False) -> str:
    """The URL under which a bound socket is reached."""
    host, port = listener.getsockname()[:2]
    scheme = "https" if tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def is_local(listener: socket.socket) -> bool:
    """Whether this machine alone reaches a bound socket."""
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def require_guarded(
    listener: socket.socket, host: str, guards: Mapping[str, object], insecure: bool
) -> None:
    """Refuse to be open to other machines by mistake.

    Parameters
    ----------
    listener : socket
    host : str
        As it was asked for.
    guards : mapping of option to value
        What has to be given then; None is not given.
    insecure : bool
        Asked for on purpose.

    Raises
    ------
    WrongUsage
        If other machines reach the socket, and a guard is missing.
    """
    missing = [option for option, given in guards.items() if given is None]
    if missing and not insecure and not is_local(listener):
        raise WrongUsage(
            f"--host {host}: other machines reach it: give {' and '.join(missing)}, or"
            " --insecure behind a proxy that does both"
        )
