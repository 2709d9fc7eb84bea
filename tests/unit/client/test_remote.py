"""The site's client against servers that behave as told."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest

from veilseg.bundle import ClientManifest, TensorSpec
from veilseg.client import transfer
from veilseg.client.remote import RemoteServer
from veilseg.errors import (
    BundleIntegrity,
    GeometryMismatch,
    InvalidAnswer,
    InvalidInput,
    ServerRefused,
)
from veilseg.wire import InferAnswer, Tensor, decode_request, documents, encode_answer
from veilseg.wire.infer import HEADER_LENGTH


class Broken(httpx.SyncByteStream):
    """A body whose connection closes after the first bytes."""

    def __iter__(self) -> Iterator[bytes]:
        yield bytes(50)
        raise httpx.ReadError("connection reset by peer")


class Server:
    """A conforming server; ``faults`` are answered or raised first, one per infer request."""

    def __init__(self, manifest: ClientManifest) -> None:
        self.manifest = manifest
        self.parameters: dict[str, Any] = {"bundle_id": manifest.bundle_id}
        self.versions = (manifest.version,)
        self.path_versions = {manifest.version}
        self.shape: tuple[int, ...] = (-1, *manifest.proxy.shape[1:])
        self.ready = True
        self.faults: list[httpx.Response | Exception] = []
        self.edit: Callable[[np.ndarray], np.ndarray] = lambda array: array
        self.binary = {"answer"}
        self.answer_name = "answer"
        self.answer_parameters: dict[str, Any] = {}
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        parts = request.url.path.removeprefix("/base").split("/")[3:]
        if parts[0] != self.manifest.name:
            return httpx.Response(404, json={"error": "unknown model; there are: secret, hidden"})
        if parts[1:2] == ["versions"] and parts[2] not in self.path_versions:
            return httpx.Response(404, json={"error": "unknown version"})
        if parts[-1] == "ready":
            return httpx.Response(200 if self.ready else 400)
        return self.infer(request) if parts[-1] == "infer" else self.metadata()

    def metadata(self) -> httpx.Response:
        answer = self.manifest.answer
        document = documents.ModelMetadata(
            self.manifest.name,
            self.versions,
            "test",
            (TensorSpec("proxy", self.manifest.proxy.datatype, self.shape),),
            (TensorSpec("answer", answer.datatype, (-1, *answer.shape[1:])),),
            self.parameters,
        )
        return httpx.Response(200, json=document.to_json())

    def infer(self, request: httpx.Request) -> httpx.Response:
        if self.faults:
            fault = self.faults.pop(0)
            if isinstance(fault, Exception):
                raise fault
            return fault
        asked = decode_request(request.content, request.headers.get(HEADER_LENGTH))
        tile = asked.inputs[0].array
        array = self.edit(np.concatenate([1 - tile, tile], axis=1))
        message = encode_answer(
            InferAnswer(
                "tiny", "1", (Tensor(self.answer_name, array),), None, self.answer_parameters
            ),
            self.binary,
        )
        return httpx.Response(200, content=message.body, headers=message.headers)


@pytest.fixture
def server(manifest: ClientManifest) -> Server:
    return Server(manifest)


@pytest.fixture
def remote(server: Server) -> Iterator[RemoteServer]:
    with connect(server) as remote:
        yield remote


def connect(server: Server, url: str = "http://server:1", **options: Any) -> RemoteServer:
    transport = httpx.MockTransport(server)
    return RemoteServer(url, server.manifest, transport=transport, **options)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "sleep", lambda pause_s: None)


def test_a_tile_there_and_back(remote: RemoteServer, server: Server, tile: np.ndarray):
    answer = remote(tile)
    assert (answer.shape, answer.dtype) == ((2, 8, 6, 4), np.float32)
    np.testing.assert_array_equal(answer, np.concatenate([1 - tile, tile]))
    assert [(r.method, r.url.path) for r in server.requests] == [
        ("GET", "/v2/models/tiny/versions/1.2.0"),
        ("GET", "/v2/models/tiny/versions/1.2.0/ready"),
        ("POST", "/v2/models/tiny/versions/1.2.0/infer"),
    ]
    assert remote.bytes_sent == len(server.requests[-1].content)
    assert remote.bytes_received > answer.size * 2
    remote(tile)
    assert remote.bytes_sent == 2 * len(server.requests[-1].content)


def test_what_goes_with_a_tile(remote: RemoteServer, server: Server, tile: np.ndarray):
    server.faults = [httpx.Response(503, headers={"set-cookie": "site=7; Path=/"})]
    remote(tile)
    first, second = server.requests[-2:]
    assert first.content == second.content
    assert first.headers == second.headers
    assert set(first.headers) == {
        "host",
        "accept",
        "accept-encoding",
        "connection",
        "user-agent",
        "content-type",
        "content-length",
        HEADER_LENGTH.lower(),
    }
    sent = [first.headers[name] for name in ("user-agent", "accept-encoding")]
    assert sent == ["veilseg", "identity"]
    asked = decode_request(first.content, first.headers[HEADER_LENGTH])
    assert asked.id is None


def test_a_base_path(server: Server, tile: np.ndarray):
    with connect(server, "https://server/base/") as remote:
        remote(tile)
    assert str(server.requests[0].url) == "https://server/base/v2/models/tiny/versions/1.2.0"


def test_servers_without_the_binary_extension(
    remote: RemoteServer, server: Server, tile: np.ndarray
):
    server.binary = set()
    np.testing.assert_array_equal(remote(tile), np.concatenate([1 - tile, tile]))


def test_a_triton_that_hosts_the_bundle(remote: RemoteServer, server: Server, tile: np.ndarray):
    server.parameters = {}
    server.versions, server.path_versions = ("1",), {"1"}
    remote(tile)
    assert server.requests[-1].url.path == "/v2/models/tiny/versions/1/infer"


def test_options_that_cannot_be_used(manifest: ClientManifest):
    with pytest.raises(InvalidInput, match="timeout_s is a positive number"):
        RemoteServer("http://server", manifest, timeout_s=0)
    unknown = replace(manifest, proxy=replace(manifest.proxy, datatype="INT8"))
    with pytest.raises(InvalidInput, match="datatype INT8"):
        RemoteServer("http://server", unknown)


def test_tiles_that_cannot_be_sent(remote: RemoteServer, server: Server, tile: np.ndarray):
    with pytest.raises(GeometryMismatch, match="shape"):
        remote(tile[..., :2])
    for value in (np.nan, np.inf, 1e6):
        with pytest.raises(InvalidInput, match="not finite in FP16"):
            remote(np.full_like(tile, value))
    assert server.requests == []


def test_check_refuses_another_bundle(remote: RemoteServer, server: Server, tile: np.ndarray):
    server.parameters = {"bundle_id": "f" * 64}
    with pytest.raises(BundleIntegrity, match="of bundle 'ffffffffffff', this site holds"):
        remote(tile)
    assert {request.method for request in server.requests} == {"GET"}


def test_an_answer_of_another_bundle(remote: RemoteServer, server: Server, tile: np.ndarray):
    server.answer_parameters = {"bundle_id": "f" * 64}
    with pytest.raises(BundleIntegrity, match="of bundle 'ffffffffffff'"):
        remote(tile)


def test_check_wants_the_model(server: Server):
    for changes in ({"name": "other"}, {"version": "9"}):
        wanted = replace(server.manifest, **changes)
        remote = RemoteServer("http://server", wanted, transport=httpx.MockTransport(server))
        with remote, pytest.raises(ServerRefused, match=r"no model .* in version") as caught:
            remote.check()
        assert "secret" not in str(caught.value)


def test_check_wants_its_tensors(remote: RemoteServer, server: Server):
    server.shape = (-1, 1, 8, 6, 5)
    with pytest.raises(InvalidAnswer, match="has not the input proxy FP16"):
        remote.check()


def test_check_wants_it_ready(remote: RemoteServer, server: Server):
    server.ready = False
    with pytest.raises(ServerRefused, match="model tiny is not ready: 400"):
        remote.check()


@pytest.mark.parametrize("content", [b"<html>", b"[]", b"{}", b'{"name":"tiny"}'])
def test_check_wants_a_description(server: Server, content: bytes):
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=content)

    remote = RemoteServer("http://server", server.manifest, transport=httpx.MockTransport(answer))
    with remote, pytest.raises(InvalidAnswer, match="no usable model metadata"):
        remote.check()


def test_a_tile_is_sent_again_until_it_is_answered(
    remote: RemoteServer, server: Server, tile: np.ndarray
):
    server.faults = [
        httpx.Response(503, json={"error": "too many"}),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.Response(200, stream=Broken()),
    ]
    np.testing.assert_array_equal(remote(tile), np.concatenate([1 - tile, tile]))
    # The attempt that met no server sent nothing; the last of all and three others did.
    assert remote.bytes_sent == 4 * len(server.requests[-1].content)


def test_a_missing_model_names_no_other(remote: RemoteServer, server: Server, tile: np.ndarray):
    server.faults = [httpx.Response(404, json={"error": "there are: secret, hidden"})]
    with pytest.raises(ServerRefused, match=r"no model tiny in version 1\.2\.0$"):
        remote(tile)


BAD_ANSWERS: dict[str, tuple[dict[str, Any], str]] = {
    "shape": (
        {"edit": lambda a: a[..., :3]},
        r"FP16 \[1, 2, 8, 6, 3\], not FP16 \[1, 2, 8, 6, 4\]",
    ),
    "batch": ({"edit": lambda a: np.repeat(a, 2, axis=0)}, r"\[2, 2, 8, 6, 4\], not"),
    "datatype": ({"edit": lambda a: a.astype(np.float32)}, "FP32 .*, not FP16"),
    "NaN": ({"edit": lambda a: a * np.float16(np.nan)}, "holds NaN or infinity"),
    "infinity": ({"edit": lambda a: a + np.float16(np.inf)}, "holds NaN or infinity"),
    "name": ({"answer_name": "mask", "binary": {"mask"}}, "not just the tensor answer"),
}


@pytest.mark.parametrize(("changes", "reason"), BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_bad_answers(remote: RemoteServer, server: Server, tile: np.ndarray, changes, reason: str):
    for name, value in changes.items():
        setattr(server, name, value)
    with pytest.raises(InvalidAnswer, match=reason):
        remote(tile)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (httpx.Response(200, content=b"ok"), "not JSON"),
        (httpx.Response(200, json={"model_name": "tiny", "outputs": []}), "outputs is missing"),
        (httpx.Response(200, content=b"{}", headers={HEADER_LENGTH: "9"}), "beyond the body"),
        (httpx.Response(200, content=bytes(100_000)), "longer than any answer"),
        (
            httpx.Response(
                200, stream=httpx.ByteStream(b"x"), headers={"content-encoding": "gzip"}
            ),
            "is compressed",
        ),
    ],
)
def test_what_is_no_answer(
    remote: RemoteServer, server: Server, tile: np.ndarray, response: httpx.Response, reason: str
):
    server.faults = [response]
    with pytest.raises(InvalidAnswer, match=reason):
        remote(tile)


def test_the_client_has_nothing_that_processes():
    code = "import sys, veilseg.client.remote; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert {"veilseg.serving", "openvino", "torch", "fastapi"}.isdisjoint(loaded)
