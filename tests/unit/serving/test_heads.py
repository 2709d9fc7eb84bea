"""A client that does not read what it asked for does not make the server hold it for ever."""

import asyncio
import socket
import time

import uvicorn
from starlette.responses import Response
from uvicorn.server import ServerState

from veilseg.serving.heads import bounded_in_time

ANSWER = bytes(64 * 2**20)


async def app(scope, receive, send) -> None:
    await Response(ANSWER)(scope, receive, send)


async def asked(unread_s: float, read: bool) -> int:
    """Bytes that come within half a second, of a client that reads at once or only then."""
    config = uvicorn.Config(app, log_config=None, lifespan="off")
    config.load()
    kind, state = bounded_in_time(20.0, unread_s), ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: kind(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    async with server:
        address = server.sockets[0].getsockname()

        def client() -> int:
            with socket.create_connection(address, timeout=30) as line:
                line.sendall(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
                if not read:
                    time.sleep(1.0)
                found = 0
                try:
                    while part := line.recv(1 << 20):
                        found += len(part)
                except ConnectionResetError:
                    pass
                return found

        return await asyncio.to_thread(client)


def test_an_answer_that_is_not_read_is_let_go():
    assert asyncio.run(asked(0.2, read=False)) < len(ANSWER)


def test_one_that_is_read_comes_whole_however_long_it_is():
    assert asyncio.run(asked(5.0, read=True)) > len(ANSWER)


def test_a_reader_that_falls_behind_for_a_while_gets_all_of_it():
    assert asyncio.run(asked(30.0, read=False)) > len(ANSWER)
