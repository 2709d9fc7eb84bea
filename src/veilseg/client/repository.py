"""Asking a running server to host what is new on its disk."""

from typing import Final

import httpx

from veilseg.client.credentials import Credentials
from veilseg.client.transfer import Transfer
from veilseg.errors import ServerRefused

# Compiling and self-testing a model takes a minute at most; the other models go on meanwhile.
TIMEOUT_S: Final = 600.0
DOCUMENT_BYTES: Final = 65536


def load(url: str, model: str, credentials: Credentials) -> None:
    """Have every version of a model that is on the server's disk hosted.

    Raises
    ------
    InvalidInput
        If the URL cannot be used.
    ServerUnreachable
        If there is no connection.
    ServerRefused
        If the server does not host them; what it hosted before goes on.
    """
    transfer = Transfer(url, TIMEOUT_S, 1, None, credentials)
    try:
        path = f"/v2/repository/models/{model}/load"
        headers = {"Content-Type": "application/json"}
        reply = transfer.send("POST", path, b"{}", headers, DOCUMENT_BYTES)
    finally:
        transfer.close()
    if reply.status != httpx.codes.OK:
        raise ServerRefused(f"{url}: model {model}: {reply.error_text}")
