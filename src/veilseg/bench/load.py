"""Closed loop: so many clients, each of which sends its next tile when it has its answer."""

import http.client
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from veilseg.bench.rounds import median, percentile, significant
from veilseg.wire import Message

TIMEOUT_S: Final = 120.0
# Of each client, however small the budget.
FEWEST_REQUESTS: Final = 2


@dataclass
class Load:
    """What came of it.

    Attributes
    ----------
    seconds : float
        From the first request to the last answer.
    latencies_s : list of float
        Of every answer with status 200.
    failures : dict
        How often by reason.
    """

    seconds: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)

    @property
    def throughput(self) -> float:
        """Answers per second."""
        return len(self.latencies_s) / self.seconds if self.seconds else 0.0

    def summary(self) -> dict[str, Any]:
        """Throughput and quantiles of the latency in milliseconds, JSON-ready."""
        if not self.latencies_s:
            return {"n": 0, "throughput": 0.0, "failures": self.failures}
        return {
            "n": len(self.latencies_s),
            "throughput": significant(self.throughput),
            "p50_ms": significant(1000 * percentile(self.latencies_s, 0.5)),
            "p95_ms": significant(1000 * percentile(self.latencies_s, 0.95)),
            "mean_ms": significant(1000 * sum(self.latencies_s) / len(self.latencies_s)),
            "failures": self.failures,
        }


def closed_loop(
    urls: list[str], path: str, message: Message, clients: int, budget_s: float
) -> Load:
    """Send the same request again and again, from as many connections as there are clients.

    Parameters
    ----------
    urls : list of str
        Replicas; a client stays with one of them.
    path : str
    message : Message
    clients : int
    budget_s : float
        No request begins after it, but for the :data:`FEWEST_REQUESTS` of each client.
    """
    ready = threading.Barrier(clients + 1)
    load, lock = Load(), threading.Lock()
    ended: list[float] = []

    def client(number: int) -> None:
        ask = connected(urls[number % len(urls)], path, message)
        latencies: list[float] = []
        failures: dict[str, int] = {}
        ready.wait()
        begun = now = time.perf_counter()
        sent = 0
        while sent < FEWEST_REQUESTS or now - begun < budget_s:
            sent += 1
            reason = ask()
            before, now = now, time.perf_counter()
            if reason is None:
                latencies.append(now - before)
            else:
                failures[reason] = failures.get(reason, 0) + 1
        ask(end=True)
        with lock:
            ended.append(now)
            load.latencies_s.extend(latencies)
            for reason, count in failures.items():
                load.failures[reason] = load.failures.get(reason, 0) + count

    threads = [threading.Thread(target=client, args=(n,), daemon=True) for n in range(clients)]
    for thread in threads:
        thread.start()
    ready.wait()
    begun = time.perf_counter()
    for thread in threads:
        thread.join()
    load.seconds = max(ended, default=begun) - begun
    return load


def one_answer(url: str, path: str, message: Message) -> tuple[bytes, str | None]:
    """Body and JSON length of one answer, to compare it. Raises :class:`OSError` if refused."""
    from veilseg.wire.infer import HEADER_LENGTH

    connection = _connect(url)
    try:
        connection.request("POST", path, message.body, message.headers)
        response = connection.getresponse()
        body = response.read()
        if response.status != http.client.OK:
            raise OSError(f"status {response.status}")
        return body, response.headers.get(HEADER_LENGTH)
    finally:
        connection.close()


def medians(rounds: list[Load]) -> dict[str, Any]:
    """Of each figure the median over rounds; failures are added up."""
    each = [load.summary() for load in rounds]
    answered = [one for one in each if one["n"]]
    failures: dict[str, int] = {}
    for one in each:
        for reason, count in one["failures"].items():
            failures[reason] = failures.get(reason, 0) + count
    figures = ("throughput", "p50_ms", "p95_ms", "mean_ms")
    return {
        "n": sum(one["n"] for one in each),
        **{name: median([one[name] for one in answered]) for name in figures if answered},
        "failures": failures,
    }


class _InOneWrite(http.client.HTTPConnection):
    """Sends a request's head and body together: a server that waits for the second part of a
    request would be measured by the kernel's patience."""

    _parts: list[bytes] | None = None

    def request(self, *given: Any, **more: Any) -> None:
        self._parts = []
        super().request(*given, **more)
        whole, self._parts = b"".join(self._parts), None
        super().send(whole)

    def send(self, data: Any) -> None:
        if self._parts is None:
            super().send(data)
        else:
            self._parts.append(bytes(data))


def _connect(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    return _InOneWrite(parts.hostname or "", parts.port, timeout=TIMEOUT_S)


def connected(url: str, path: str, message: Message) -> Callable[..., str | None]:
    """Sends the request over a line that is kept; gives why it failed, if it did."""
    line = _connect(url)

    def ask(*, end: bool = False) -> str | None:
        if end:
            line.close()
            return None
        try:
            line.request("POST", path, message.body, message.headers)
            response = line.getresponse()
            response.read()
        except (OSError, http.client.HTTPException) as error:
            # The next request makes a new line.
            line.close()
            return type(error).__name__
        return None if response.status == http.client.OK else str(response.status)

    return ask
