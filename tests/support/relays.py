"""A TCP relay on loopback; what it does to what passes is told by those that derive from it."""

import contextlib
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Self

JOIN_S = 30


class Relay(ABC):
    """Takes connections while the block runs; ``url`` says where.

    Subclasses say in ``_taken`` what becomes of a connection, and use ``_start`` for threads and
    ``_sockets`` for what is closed at the end.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # close() alone does not wake a thread that waits.
        for end in (self._listener, *self._sockets):
            shut(end)
        for thread in self._threads:
            thread.join(JOIN_S)
        for end in (self._listener, *self._sockets):
            end.close()

    @abstractmethod
    def _taken(self, site: socket.socket) -> None: ...

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                site, _ = self._listener.accept()
            except OSError:
                return
            self._taken(site)


def shut(end: socket.socket) -> None:
    """End both directions, if they have not ended."""
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


def pump(
    source: socket.socket, sink: socket.socket, see: Callable[[bytes], bool] = lambda _: True
) -> None:
    """Pass bytes on until the source ends; those that ``see`` says no to are dropped."""
    with contextlib.suppress(OSError):
        while chunk := source.recv(65536):
            if see(chunk):
                sink.sendall(chunk)
        sink.shutdown(socket.SHUT_WR)
