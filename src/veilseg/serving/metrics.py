"""Counts and durations for Prometheus: of sites by name, of people nothing."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from veilseg import __version__

# From a 2D tile on a server's CPU to a large volume's on a laptop.
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
TILES: Final = (1, 2, 4, 8, 16, 32, 64)
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """All metrics of one server, in a registry of its own.

    Labels are names of served models, names of sites as in the tokens file, routes and
    statuses: never what a stranger wrote, which could grow without bound.

    Parameters
    ----------
    gauges : callable, optional
        Gives rows of model, version, waiting tiles, requests inside and whether it answers.
    """

    def __init__(
        self, gauges: Callable[[], Iterable[tuple[str, str, int, int, bool]]] = tuple
    ) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "veilseg_requests",
            "HTTP requests by route, site and status.",
            ["route", "site", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "veilseg_request_seconds",
            "Time from a request's head to the end of its answer.",
            ["route"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._tiles = Counter(
            "veilseg_tiles",
            "Tiles accepted by model and site.",
            ["model", "version", "site"],
            registry=self._registry,
        )
        self._bytes = Counter(
            "veilseg_body_bytes",
            "Bytes of the bodies of inference requests, decompressed.",
            ["site"],
            registry=self._registry,
        )
        self._compute = Histogram(
            "veilseg_compute_seconds",
            "Time a network took for a batch.",
            ["model", "version"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._wait = Histogram(
            "veilseg_wait_seconds",
            "Time a tile waited for its turn.",
            ["model", "version"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._batch = Histogram(
            "veilseg_batch_tiles",
            "Tiles of a batch, without what fills it up.",
            ["model", "version"],
            buckets=TILES,
            registry=self._registry,
        )
        Gauge("veilseg_info", "The server.", ["version"], registry=self._registry).labels(
            __version__
        ).set(1)
        self._registry.register(_Now(gauges))
        # Memory, processor time and open files of this process, by the names that everybody's have.
        ProcessCollector(registry=self._registry)

    def request(self, route: str, site: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.labels(route, site, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def accepted(self, model: str, version: str, site: str, tiles: int, body_bytes: int) -> None:
        """Count an inference request that is going to be computed."""
        self._tiles.labels(model, version, site).inc(tiles)
        self._bytes.labels(site).inc(body_bytes)

    def of_model(self, model: str, version: str) -> "ModelMetrics":
        """The metrics of one network's batches."""
        labels = (model, version)
        return ModelMetrics(
            self._compute.labels(*labels), self._wait.labels(*labels), self._batch.labels(*labels)
        )

    def text(self) -> bytes:
        """Everything in Prometheus's text format."""
        return generate_latest(self._registry)


class ModelMetrics:
    """An :class:`~veilseg.serving.batching.Observer` of one network."""

    def __init__(self, compute: Histogram, wait: Histogram, size: Histogram) -> None:
        self._compute, self._wait, self._size = compute, wait, size

    def batch(self, tiles: int, waited_s: Sequence[float], seconds: float) -> None:
        """Count a batch."""
        self._compute.observe(seconds)
        self._size.observe(tiles)
        for waited in waited_s:
            self._wait.observe(waited)


class _Now(Collector):
    """What is true while it is asked for."""

    def __init__(self, rows: Callable[[], Iterable[tuple[str, str, int, int, bool]]]) -> None:
        self._rows = rows

    def collect(self) -> Iterable[Metric]:
        """The gauges."""
        labels = ["model", "version"]
        waiting = GaugeMetricFamily(
            "veilseg_waiting_tiles", "Tiles that wait for their turn.", labels=labels
        )
        inside = GaugeMetricFamily(
            "veilseg_requests_inside", "Requests read, waiting or running.", labels=labels
        )
        ready = GaugeMetricFamily("veilseg_model_ready", "Whether a model answers.", labels=labels)
        for model, version, tiles, requests, answers in self._rows():
            waiting.add_metric([model, version], tiles)
            inside.add_metric([model, version], requests)
            ready.add_metric([model, version], int(answers))
        return waiting, inside, ready
