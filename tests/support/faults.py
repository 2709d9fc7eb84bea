"""A TCP relay that breaks connections the way networks and crashing servers do."""

import contextlib
import random
import socket
import struct
import threading
import time
from types import TracebackType
from typing import Final, Literal, Self

Fault = Literal["none", "refuse", "reset", "cut", "slow", "swallow"]
FAULTS: Final[tuple[Fault, ...]] = ("none", "refuse", "reset", "cut", "slow", "swallow")
# A connection with pending data and this option is reset instead of closed.
RESET: Final = struct.pack("ii", 1, 0)


class FaultyRelay:
    """Relays to ``target``, breaking some connections.

    Parameters
    ----------
    target : (str, int)
        May be set anew, as when a server comes back on another port.
    seed : int
        Decides which connection breaks, and after how many bytes of its answers.
    share : float
        How many connections break.

    Attributes
    ----------
    faults : dict
        How often each fault was met.
    """

    def __init__(self, target: tuple[str, int], seed: int, share: float = 0.5) -> None:
        self.target = target
        self.faults: dict[Fault, int] = dict.fromkeys(FAULTS, 0)
        self._random = random.Random(seed)
        self._share = share
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._ending = False
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(30)

    def _start(self, work, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                site, _ = self._listener.accept()
            except OSError:
                return
            broken = self._random.random() < self._share
            fault = self._random.choice(FAULTS[1:]) if broken else "none"
            after_bytes = self._random.choice([0, 1, 200, 1000, 5000, 20000])
            self.faults[fault] += 1
            self._start(self._relay, site, fault, after_bytes)

    def _relay(self, site: socket.socket, fault: Fault, after_bytes: int) -> None:
        with site:
            if fault == "refuse":
                return _reset(site)
            try:
                server = socket.create_connection(self.target, timeout=30)
            except OSError:
                # The server is gone: to the site it looks like a reset.
                return _reset(site)
            with server:
                upward = threading.Thread(target=self._pump_up, args=(site, server), daemon=True)
                upward.start()
                self._pump_down(server, site, fault, after_bytes)
                for end in (site, server):
                    _shut(end)
                upward.join(30)
        return None

    def _pump_up(self, site: socket.socket, server: socket.socket) -> None:
        try:
            while chunk := site.recv(65536):
                server.sendall(chunk)
            server.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def _pump_down(
        self, server: socket.socket, site: socket.socket, fault: Fault, after_bytes: int
    ) -> None:
        passed = 0
        try:
            server.settimeout(60)
            while chunk := server.recv(2048):
                if fault in ("reset", "cut", "swallow") and passed + len(chunk) > after_bytes:
                    site.sendall(chunk[: after_bytes - passed])
                    if fault == "reset":
                        _reset(site)
                    if fault == "swallow":
                        # The rest never comes; the site has to notice by itself.
                        while not self._ending and _is_open(site):
                            time.sleep(0.05)
                    return
                if fault == "slow":
                    time.sleep(0.02)
                site.sendall(chunk)
                passed += len(chunk)
        except OSError:
            pass


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    end.close()


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


def _is_open(end: socket.socket) -> bool:
    # A pump of this relay reads the same socket: it closes it when the site does.
    return end.fileno() >= 0 and not _has_ended(end)


def _has_ended(end: socket.socket) -> bool:
    try:
        return end.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
