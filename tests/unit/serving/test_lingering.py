"""Which refusals wait for the rest of a body."""

from typing import Any

import anyio
import pytest
from starlette.responses import PlainTextResponse

from veilseg.serving.lingering import Lingering


def read_of(
    parts: int,
    status: int = 429,
    timeout_s: float = 60,
    stuck: bool = False,
    method: str = "POST",
    **headers: str,
) -> int:
    """How many parts of a body of ten bytes each are read, of a request that is refused unread."""
    read = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("no", status)(scope, receive, send)

    async def receive() -> dict[str, Any]:
        nonlocal read
        if stuck and read:
            await anyio.sleep_forever()
        read += 1
        return {"type": "http.request", "body": bytes(10), "more_body": read < parts}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": "/", "headers": fields}
    lingering = Lingering(app, lambda: 100, timeout_s)
    anyio.run(lingering, scope, receive, send)
    assert sent[0]["status"] == status
    return read


@pytest.mark.parametrize(
    ("parts", "status", "headers", "read"),
    [
        (5, 429, {"content_length": "50"}, 5),
        (5, 401, {"transfer_encoding": "chunked"}, 5),
        (5, 200, {"content_length": "50"}, 5),
        # Nothing is announced, or it is not worth waiting for.
        (5, 429, {}, 0),
        (5, 429, {"content_length": "0"}, 0),
        (5, 429, {"content_length": "101"}, 0),
        (5, 413, {"content_length": "50"}, 0),
        (5, 408, {"content_length": "50"}, 0),
        (5, 429, {"content_length": "50", "expect": "100-continue"}, 0),
        # More comes than any model takes.
        (99, 429, {"transfer_encoding": "chunked"}, 11),
    ],
)
def test_what_is_read_of_a_refused_body(
    parts: int, status: int, headers: dict[str, str], read: int
):
    assert read_of(parts, status, **headers) == read


def test_it_does_not_wait_for_ever():
    assert read_of(5, timeout_s=0.05, stuck=True, content_length="50") == 1


def test_a_get_has_no_body_whatever_it_announces():
    assert read_of(5, method="GET", content_length="50") == 0
