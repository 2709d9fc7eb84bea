"""A TCP relay that breaks connections the way networks and crashing servers do."""

import contextlib
import random
import socket
import struct
import threading
import time
from typing import Final, Literal

from relays import Relay, pump, shut

Fault = Literal["none", "refuse", "reset", "cut", "slow", "swallow"]
FAULTS: Final[tuple[Fault, ...]] = ("none", "refuse", "reset", "cut", "slow", "swallow")
# A connection with pending data and this option is reset instead of closed.
RESET: Final = struct.pack("ii", 1, 0)


class FaultyRelay(Relay):
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
    answered : int
        Bytes of answers that came through.
    """

    def __init__(self, target: tuple[str, int], seed: int, share: float = 0.5) -> None:
        super().__init__()
        self.target = target
        self.faults: dict[Fault, int] = dict.fromkeys(FAULTS, 0)
        self.answered = 0
        self._random = random.Random(seed)
        self._share = share
        self._ending = False

    def __exit__(self, *exception: object) -> None:
        self._ending = True
        super().__exit__(*exception)

    def _taken(self, site: socket.socket) -> None:
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
                upward = threading.Thread(target=pump, args=(site, server), daemon=True)
                upward.start()
                self._pump_down(server, site, fault, after_bytes)
                for end in (site, server):
                    shut(end)
                upward.join(30)
        return None

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
                self.answered += len(chunk)
        except OSError:
            pass


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    end.close()


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
