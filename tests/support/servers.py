"""Servers in this process whose answers, good or bad, are chosen by the test."""

import json
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

import numpy as np
from phantoms import one_hot
from relays import Relay, pump

from veilseg.bundle import ClientManifest
from veilseg.client.pipeline import Outgoing
from veilseg.imaging.preprocessing import prepare_labels
from veilseg.imaging.tiling import tiles
from veilseg.imaging.volume import LabelMap
from veilseg.wire import InferAnswer, Tensor, decode_request, documents, encode_answer
from veilseg.wire.infer import HEADER_LENGTH
from veilseg.wire.tensors import DTYPES

Behaviour = Callable[[np.ndarray], np.ndarray]
# In place of an answer: the connection closes in the middle of it.
HANG_UP = "hang up"


class OracleServer:
    """Speaks enough of the protocol for a site; ``behaviour`` maps a tile to its answer.

    Parameters
    ----------
    manifest : ClientManifest
    port : int
        Where another was before, to come back; 0 for a free one.

    Attributes
    ----------
    behaviour : callable or HANG_UP
    tiles : list of ndarray
        Proxy tiles received so far.
    holding : threading.Event
        Set while an answer waits for ``release``.
    """

    def __init__(self, manifest: ClientManifest, port: int = 0) -> None:
        self.manifest = manifest
        self.behaviour: Behaviour | str = HANG_UP
        self.tiles: list[np.ndarray] = []
        self.stated_id = manifest.bundle_id
        self.release = threading.Event()
        self.release.set()
        self.holding = threading.Event()
        owner = self

        class Handler(_Handler):
            oracle = owner

        self._http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    oracle: OracleServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        manifest = self.oracle.manifest
        if not self.path.startswith(f"/v2/models/{manifest.name}/versions/{manifest.version}"):
            self._send(404, json.dumps(documents.error("no such model")).encode(), {})
            return
        metadata = documents.ModelMetadata(
            manifest.name,
            (manifest.version,),
            "oracle",
            (manifest.proxy,),
            (manifest.answer,),
            {documents.BUNDLE_ID: self.oracle.stated_id},
        )
        self._send(200, json.dumps(metadata.to_json()).encode(), {})

    def do_POST(self) -> None:
        oracle = self.oracle
        body = self.rfile.read(int(self.headers["content-length"]))
        tile = decode_request(body, self.headers.get(HEADER_LENGTH)).inputs[0].array[0]
        oracle.tiles.append(tile)
        if not oracle.release.is_set():
            oracle.holding.set()
            oracle.release.wait(60)
        if isinstance(oracle.behaviour, str):
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nhalf an ans")
            self.close_connection = True
            return
        spec = oracle.manifest.answer
        answer = oracle.behaviour(tile)[None].astype(DTYPES[spec.datatype])
        message = encode_answer(
            InferAnswer(oracle.manifest.name, "1", (Tensor(spec.name, answer),)), {spec.name}
        )
        self._send(200, message.body, message.headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def ideal_server(
    outgoing: Outgoing, labels: LabelMap, manifest: ClientManifest, coefficient: float | None
) -> Behaviour:
    """A server that knows both truths and gives the exact (mixture of) segmentations.

    Parameters
    ----------
    outgoing : Outgoing
        What the site made of the image; its receipt tells the reference's labels.
    labels : LabelMap
        The truth, on the image's own grid.
    coefficient : float or None
        None for ``plain``: the truth itself.
    """
    target = one_hot(prepare_labels(labels, outgoing.restoration, len(manifest.labels)))
    if coefficient is not None:
        theirs = one_hot(outgoing.receipt.reference.labels)
        target = coefficient * target + (1 - coefficient) * theirs
    known: dict[bytes, np.ndarray] = {}
    channels = len(manifest.channels)

    both = np.concatenate([outgoing.proxy.array, target]).astype(np.float32)
    for tile in tiles(both, manifest.tile_shape, manifest.tile_overlap):
        known[tile[:channels].astype("<f2").tobytes()] = tile[channels:]
    return lambda tile: known[tile.astype("<f2").tobytes()]


class RecordingRelay(Relay):
    """Keeps every byte a site sends to the server behind it."""

    def __init__(self, address: str) -> None:
        super().__init__()
        host, _, port = address.partition(":")
        self._target = (host, int(port))
        self._sent: list[bytearray] = []

    @property
    def connections(self) -> list[bytes]:
        """Bytes from the site, one entry per connection."""
        return [bytes(sent) for sent in self._sent]

    def wait_until_idle(self) -> None:
        """Wait until every connection has been closed by the site."""
        deadline = time.monotonic() + 10
        while any(thread.is_alive() for thread in self._threads[1:]):
            assert time.monotonic() < deadline, "the site left a connection open"
            time.sleep(0.01)

    def _taken(self, site: socket.socket) -> None:
        server = socket.create_connection(self._target)
        self._sockets += [site, server]
        sent = bytearray()
        self._sent.append(sent)

        def kept(chunk: bytes) -> bool:
            sent.extend(chunk)
            return True

        self._start(pump, site, server, kept)
        self._start(pump, server, site)
