"""``veilseg bench site``: where the time of one segmentation goes, from the file to the file."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx

from veilseg.bench.record import record
from veilseg.bench.rounds import median
from veilseg.bundle import ClientManifest
from veilseg.client.pipeline import channel_files, segment
from veilseg.client.remote import RemoteServer
from veilseg.datasets.layout import Case
from veilseg.demo.server import server_process
from veilseg.imaging.formats import result_endings, write_label_map
from veilseg.payload import Answer, Float32Array, Proxy, Receipt
from veilseg.scheme import ClientHalf

Seconds = dict[str, float]
# In the order in which an image meets them.
PHASES: Final = ("read", "protect", "ledger", "tile", "wire", "wait", "recover", "write")
WARM_UP: Final = 1


class Stopwatch:
    """Seconds by phase of one image, each second in one phase only."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.seconds: Seconds = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add what the block takes."""
        begun = self._clock()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + self._clock() - begun


@dataclass(frozen=True)
class Arm:
    """One bundle at a site, with everything that outlives an image.

    Attributes
    ----------
    manifest : ClientManifest
    half : ClientHalf
    before_sending : callable
        The ledger's veto, by subject.
    """

    manifest: ClientManifest
    half: ClientHalf
    before_sending: Callable[[str, Sequence[Proxy]], None] | None = None


@dataclass
class TimedHalf:
    """A client half whose two steps are timed."""

    half: ClientHalf
    watch: Stopwatch

    def protect(self, image: Float32Array, subject: str, mixture: int = 0) -> tuple[Proxy, Receipt]:
        """As the half."""
        with self.watch.phase("half protects"):
            return self.half.protect(image, subject, mixture)

    def recover(self, answer: Answer, receipt: Receipt) -> Float32Array:
        """As the half."""
        with self.watch.phase("half recovers"):
            return self.half.recover(answer, receipt)


class TimedTransport(httpx.BaseTransport):
    """The network, with the time from a request's first byte to its answer's head and body."""

    def __init__(self, watch: Stopwatch) -> None:
        self._watch = watch
        self._network = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Pass on."""
        with self._watch.phase("wait"):
            response = self._network.handle_request(request)
            # Read here, for a body that is still arriving is waited for as well.
            body = response.read()
        return httpx.Response(response.status_code, headers=response.headers, content=body)

    def close(self) -> None:
        """Close the connections."""
        self._network.close()


@dataclass
class TimedServer:
    """A remote server whose calls are timed."""

    server: RemoteServer
    watch: Stopwatch
    tiles: int = field(default=0)

    def __call__(self, tile: Float32Array) -> Float32Array:
        """As the server."""
        self.tiles += 1
        with self.watch.phase("server"):
            return self.server(tile)


def one_image(arm: Arm, url: str, case: Case, out: Path) -> tuple[Seconds, dict[str, int]]:
    """Segment an image on a server.

    Returns
    -------
    dict
        Seconds of :data:`PHASES`, ``rest`` and ``total``. ``read`` is reading and bringing to the
        bundle's grid, ``ledger`` its veto and entry, ``tile`` cutting and blending, ``wire`` making
        and checking messages, ``wait`` all between a request's first byte and its answer's last,
        ``recover`` ends on the image's own grid.
    dict
        Tiles, and bytes sent and received.
    """
    watch = Stopwatch()
    with RemoteServer(url, arm.manifest, transport=TimedTransport(watch)) as remote:
        remote.check()
        watch.seconds.clear()
        server = TimedServer(remote, watch)
        begun = time.perf_counter()
        found = segment(
            channel_files(case.images[0], arm.manifest),
            case.name,
            arm.manifest,
            TimedHalf(arm.half, watch),
            server,
            partial(_vetoed, arm, case.name, watch),
        )
        with watch.phase("write"):
            write_label_map(out, found.labels)
        total = time.perf_counter() - begun
        traffic = {
            "tiles": server.tiles,
            "sent": remote.bytes_sent,
            "received": remote.bytes_received,
        }
    return _phases(watch.seconds, found.seconds, total), traffic


def _vetoed(arm: Arm, subject: str, watch: Stopwatch, proxies: Sequence[Proxy]) -> None:
    with watch.phase("ledger"):
        if arm.before_sending is not None:
            arm.before_sending(subject, proxies)


def _phases(watched: Seconds, pipeline: Seconds, total: float) -> Seconds:
    seconds = {
        "read": pipeline["protect"] - watched["half protects"],
        "protect": watched["half protects"],
        "ledger": watched["ledger"],
        "tile": pipeline["process"] - watched["server"],
        "wire": watched["server"] - watched["wait"],
        "wait": watched["wait"],
        "recover": pipeline["recover"],
        "write": watched["write"],
    }
    return {**seconds, "rest": total - sum(seconds.values()), "total": total}


def measure(
    arms: Mapping[str, Arm],
    bundles: Sequence[Path],
    cases: Sequence[Case],
    folder: Path,
    progress: Callable[[int, int, str], None],
) -> dict[str, Any]:
    """Segment each case with each bundle, by turns, on one real server of this machine.

    Parameters
    ----------
    arms : mapping of str to Arm
        By name of the bundle.
    bundles : sequence of Path
        What the server hosts.
    cases : sequence of Case
        The first is segmented for the warm-up only.
    folder : Path
        For label maps that nobody keeps.
    progress : callable

    Returns
    -------
    dict
        JSON-ready; milliseconds are medians over images.
    """
    found = record("site", 0, {"n_images": len(cases) - WARM_UP})
    rows: dict[str, list[Seconds]] = {name: [] for name in arms}
    traffic: dict[str, list[dict[str, int]]] = {name: [] for name in arms}
    out = folder / f"labels{result_endings(cases[0].images[0])[0]}"
    with server_process(list(bundles)) as url:
        for number, case in enumerate(cases):
            progress(number, len(cases), case.name)
            for name in arms if number % 2 == 0 else reversed(list(arms)):
                seconds, sent = one_image(arms[name], url, case, out)
                rows[name].append(seconds)
                traffic[name].append(sent)
    progress(len(cases), len(cases), "")
    counted = {name: images[WARM_UP:] for name, images in rows.items()}
    return {
        **found,
        "bundles": {
            name: {
                "bundle_id": arms[name].manifest.bundle_id,
                "scheme": arms[name].manifest.scheme,
                "milliseconds": {
                    phase: median([1000 * row[phase] for row in images])
                    for phase in (*PHASES, "rest", "total")
                },
                # In the same order for every bundle: they can be paired.
                "total_ms": [median([1000 * row["total"]]) for row in images],
                "mean_image": {
                    what: round(statistics.mean(one[what] for one in traffic[name][WARM_UP:]), 1)
                    for what in traffic[name][0]
                },
            }
            for name, images in counted.items()
        },
    }
