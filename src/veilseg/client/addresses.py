"""Addresses of servers."""

import ipaddress

import httpx

from veilseg.errors import InvalidInput


def usable(url: str) -> str:
    """An address without a trailing slash. Raises InvalidInput if it can be none."""
    try:
        parsed = httpx.URL(url)
        port_fits = parsed.port is None or 0 < parsed.port < 65536
    except (httpx.InvalidURL, ValueError) as error:
        raise InvalidInput(f"server URL: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host or not port_fits:
        raise InvalidInput(f"server URL {url!r}: write it as http://HOST:PORT or https://HOST")
    if parsed.userinfo or parsed.query or parsed.fragment:
        raise InvalidInput("server URL: takes no user, query or fragment")
    return str(parsed).rstrip("/")


def is_safe_for_tokens(address: str) -> bool:
    """Whether nobody on the way can read what is sent there: by TLS, or to this machine itself."""
    return httpx.URL(address).scheme == "https" or is_this_machine(address)


def is_this_machine(address: str) -> bool:
    """Whether what is sent there does not leave the machine."""
    host = httpx.URL(address).host
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
