"""``veilseg bench soak``: a server under a steady load for long, and what its memory does.

Requests come at random, as from many sites, and not when the last one was answered: a server that
falls behind is not spared. Latencies count from when a request was due.
"""

import queue
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from veilseg.bench.contenders import selftest_tile
from veilseg.bench.load import Load, closed_loop, connected
from veilseg.bench.memory import resident_mib
from veilseg.bench.record import record
from veilseg.bench.rounds import percentile, significant
from veilseg.bench.serve import request_of
from veilseg.bundle import open_server_half
from veilseg.demo.server import server_process
from veilseg.errors import InvalidAnswer
from veilseg.wire import Message

# At the most, by which is measured first what the server can answer.
CALIBRATION_S: Final = 20.0
SAMPLES: Final = 200
# Caches fill and buffers grow at first: growth counts from the end of this share of the time.
SETTLED: Final = 0.1

Progress = Callable[[int, int, str], None]


def measure(
    folder: Path,
    minutes: float,
    load: float,
    clients: int,
    threads: int,
    progress: Progress,
) -> dict[str, Any]:
    """Load one server process at a share of what it can answer.

    Parameters
    ----------
    folder : Path
        Of a bundle with its server half.
    minutes : float
    load : float in (0, 1)
        Of the throughput that as many clients reach in a closed loop.
    clients : int
        Connections; more requests are never under way.
    threads : int
        Of the server's network.
    progress : callable
        Called with seconds done, seconds in all, and a note.

    Returns
    -------
    dict
        JSON-ready: rates, failures by reason, quantiles of the latency, and the server's resident
        memory over time with its growth.
    """
    found = record("soak", threads, {"minutes": minutes, "load": load, "clients": clients})
    bundle = open_server_half(folder)
    path, message = request_of(bundle, selftest_tile(bundle))
    # All clients count as one site, which may have as many requests under way as there are.
    places = {"queue_places": clients, "queue_places_per_site": clients}
    settings = {**places, "threads": threads, "log_level": "warning"}
    calibration_s = min(CALIBRATION_S, 60 * minutes * SETTLED)
    with server_process([folder], settings) as url:
        closed_loop([url], path, message, clients, calibration_s / 4)
        capacity = closed_loop([url], path, message, clients, calibration_s).throughput
        memory = _Memory(url, 60 * minutes)
        answered = open_loop(
            url, path, message, clients, load * capacity, 60 * minutes, memory.sampled, progress
        )
        memory.sampled(60 * minutes)
    latencies = answered.latencies_s
    return {
        **found,
        "model": bundle.manifest.name,
        "bundle_id": bundle.manifest.bundle_id,
        "capacity": significant(capacity),
        "offered": significant(load * capacity),
        "answered": significant(answered.throughput),
        "requests": len(latencies) + sum(answered.failures.values()),
        "failures": answered.failures | memory.missed(),
        **{
            name: significant(1000 * percentile(latencies, share)) if latencies else None
            for name, share in (("p50_ms", 0.5), ("p95_ms", 0.95), ("p99_ms", 0.99))
        },
        "memory": memory.summary(),
    }


def open_loop(
    url: str,
    path: str,
    message: Message,
    clients: int,
    rate: float,
    seconds: float,
    meanwhile: Callable[[float], None],
    progress: Progress,
    seed: int = 0,
) -> Load:
    """Send requests when they are due, whatever became of those before.

    Parameters
    ----------
    url, path, message : str, str, Message
    clients : int
        Connections. What finds none free waits, and its latency counts the wait.
    rate : float
        Requests a second, in the mean; times between them are exponential.
    seconds : float
    meanwhile : callable
        Called now and then with the seconds that have passed.
    progress : callable
    seed : int
    """
    due: queue.SimpleQueue[float | None] = queue.SimpleQueue()
    load, lock = Load(), threading.Lock()

    def client() -> None:
        ask = connected(url, path, message)
        while (at := due.get()) is not None:
            reason = ask()
            took = time.perf_counter() - at
            with lock:
                if reason is None:
                    load.latencies_s.append(took)
                else:
                    load.failures[reason] = load.failures.get(reason, 0) + 1
        ask(end=True)

    threads = [threading.Thread(target=client, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    rng = np.random.default_rng(seed)
    begun = time.perf_counter()
    at = looked = 0.0
    while (at := at + float(rng.exponential(1 / rate))) < seconds:
        time.sleep(max(0.0, begun + at - time.perf_counter()))
        due.put(begun + at)
        if at - looked >= seconds / SAMPLES:
            looked = at
            meanwhile(at)
            failed = sum(load.failures.values())
            progress(round(at), round(seconds), f"s, {failed} failed")
    for _ in threads:
        due.put(None)
    for thread in threads:
        thread.join()
    load.seconds = time.perf_counter() - begun
    progress(round(seconds), round(seconds), "s")
    return load


class _Memory:
    """Resident memory of a server over time."""

    def __init__(self, url: str, seconds: float) -> None:
        self._url, self._seconds = url, seconds
        self._samples: list[tuple[float, float]] = []
        self._missed = 0

    def sampled(self, at: float) -> None:
        """One more look. One that fails is no reason to throw half an hour away."""
        try:
            self._samples.append((at, resident_mib(self._url)))
        except InvalidAnswer:
            self._missed += 1

    def missed(self) -> dict[str, int]:
        """Looks that failed, as a reason of failures."""
        return {"metrics not told": self._missed} if self._missed else {}

    def summary(self) -> dict[str, Any]:
        """Medians of the tenth after it has settled and of the last tenth, and their growth."""
        begin, end = SETTLED * self._seconds, (1 - SETTLED) * self._seconds
        first = [mib for at, mib in self._samples if begin <= at <= 2 * begin]
        last = [mib for at, mib in self._samples if at >= end]
        return {
            "first_mib": _rounded(first),
            "last_mib": _rounded(last),
            "growth": significant(statistics.median(last) / statistics.median(first) - 1)
            if first and last
            else None,
            "samples": [[round(at, 1), round(mib, 1)] for at, mib in self._samples],
        }


def _rounded(values: Sequence[float]) -> float | None:
    return round(statistics.median(values), 1) if values else None
