"""What happens to a server while it runs: it ends in order, and models come and go."""

import contextlib
import json
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from processes import ServeProcess
from running import until
from tritonclient.utils import InferenceServerException

from veilseg.access import token_file
from veilseg.access.audit_log import verify
from veilseg.bundle import open_client_half
from veilseg.client.group import ServerGroup
from veilseg.client.remote import RemoteServer
from veilseg.wire import InferRequest, Tensor, decode_answer, encode_request

INFER = "/v2/models/tiny/infer"


@pytest.fixture
def tiles(tile: np.ndarray) -> np.ndarray:
    return tile[np.newaxis].astype(np.float16)


@pytest.fixture
def halfway(tiles: np.ndarray) -> Callable[..., "Halfway"]:
    return lambda process: Halfway(process, tiles)


class Halfway:
    """A request whose body has come in part."""

    def __init__(self, process: ServeProcess, tiles: np.ndarray) -> None:
        sent = encode_request(InferRequest((Tensor("proxy", tiles),), binary_outputs=True))
        lines = [f"POST {INFER} HTTP/1.1", "Host: s", f"Content-Length: {len(sent.body)}"]
        lines += [f"{name}: {value}" for name, value in sent.headers.items()]
        self._rest = sent.body[100:]
        self.line = socket.create_connection(process.address, timeout=120)
        self.line.sendall("\r\n".join([*lines, "", ""]).encode() + sent.body[:100])

    def finish(self) -> bytes:
        self.line.sendall(self._rest)
        answer = b""
        while chunk := self.line.recv(65536):
            answer += chunk
        self.line.close()
        return answer


def inside(process: ServeProcess) -> float:
    for line in httpx.get(f"{process.url}/metrics").text.splitlines():
        if line.startswith('veilseg_requests_inside{model="tiny"'):
            return float(line.rpartition(" ")[2])
    return -1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_finishes_what_runs_and_takes_nothing_more(
    make_bundle, tmp_path: Path, halfway, tiles: np.ndarray, number: signal.Signals
):
    with ServeProcess(tmp_path / "log", make_bundle()) as server:
        running = halfway(server)
        until(lambda: inside(server) == 1)
        assert httpx.get(f"{server.url}/v2/health/ready").status_code == 200
        server.process.send_signal(number)
        until(lambda: httpx.get(f"{server.url}/v2/health/ready").status_code == 503)
        assert httpx.get(f"{server.url}/v2/health/live").status_code == 200
        sent = encode_request(InferRequest((Tensor("proxy", tiles),)))
        late = httpx.post(server.url + INFER, content=sent.body, headers=sent.headers)
        assert late.status_code == 503
        assert late.json() == {"error": "this server is about to end"}
        assert late.headers["retry-after"] == "1"
        head, _, body = running.finish().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        length = head.lower().split(b"inference-header-content-length: ")[1].split(b"\r\n")[0]
        answer = decode_answer(body, length.decode()).outputs[0].array
        np.testing.assert_array_equal(answer, np.concatenate([1 - tiles, tiles], axis=1))
        expected = {signal.SIGTERM: 0, signal.SIGINT: 130}[number]
        assert server.process.wait(60) == expected
        assert "draining: 1 request(s) to finish" in server.text


def test_it_does_not_wait_for_ever(make_bundle, tmp_path: Path, halfway):
    settings = {"VEILSEG_SERVE_DRAIN_S": "0.5"}
    with ServeProcess(tmp_path / "log", make_bundle(), **settings) as server:
        running = halfway(server)
        until(lambda: inside(server) == 1)
        server.process.terminate()
        assert server.process.wait(60) == 0
        running.line.close()


def test_a_second_signal_ends_it_at_once(make_bundle, tmp_path: Path, halfway):
    with ServeProcess(tmp_path / "log", make_bundle()) as server:
        running = halfway(server)
        until(lambda: inside(server) == 1)
        server.process.terminate()
        until(lambda: "draining" in server.text)
        begun = time.monotonic()
        server.process.terminate()
        server.process.wait(60)
        assert time.monotonic() - begun < 30
        running.line.close()


def test_a_client_that_leaves_gives_its_place_back(make_bundle, tmp_path: Path, halfway):
    settings = {"VEILSEG_SERVE_QUEUE_PLACES_PER_SITE": "1"}
    with ServeProcess(tmp_path / "log", make_bundle(), **settings) as server:
        running = halfway(server)
        until(lambda: inside(server) == 1)
        running.line.close()
        until(lambda: inside(server) == 0)
        assert " status=499 " in server.text
        again = halfway(server)
        again.line.settimeout(60)
        until(lambda: inside(server) == 1)
        again.line.close()


def test_heads_are_bounded_in_size_and_time(make_bundle, tmp_path: Path):
    settings = {"VEILSEG_SERVE_HEAD_TIMEOUT_S": "1", "VEILSEG_SERVE_MAX_HEAD_BYTES": "2048"}
    with ServeProcess(tmp_path / "log", make_bundle(), **settings) as server:
        ready = f"{server.url}/v2/health/ready"
        assert httpx.get(ready, headers={"X-Long": "x" * 1500}).status_code == 200
        long = httpx.get(ready, headers={"X-Long": "x" * 5000})
        assert (long.status_code, list(long.json())) == (431, ["error"])
        with socket.create_connection(server.address, timeout=60) as endless:
            endless.sendall(b"GET / HTTP/1.1\r\nX-Long: " + b"x" * 1500)
            time.sleep(0.1)
            endless.sendall(b"x" * 1500)
            assert endless.recv(100).startswith(b"HTTP/1.1 400 ")
        with socket.create_connection(server.address, timeout=60) as slow:
            slow.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost:")
            assert slow.recv(100) == b"", "closed, not answered"
        # Also the second head on a connection; one that is whole lives on.
        with socket.create_connection(server.address, timeout=60) as slow:
            slow.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost: s\r\n\r\n")
            answer = b""
            while not answer.endswith(b'{"ready":true}'):
                answer += slow.recv(4096)
            assert b"200 OK" in answer
            slow.sendall(b"GET /v2")
            assert slow.recv(100) == b""
        assert httpx.get(ready).status_code == 200


@pytest.fixture
def changing(make_bundle, tmp_path: Path) -> Iterator[tuple[ServeProcess, Path, dict[str, str]]]:
    """A server whose models are in a folder, and an admin's header."""
    tokens, folder = tmp_path / "tokens.json", tmp_path / "models"
    folder.mkdir()
    shutil.copytree(make_bundle(version="1.0"), folder / "one")
    token, _ = token_file.add(tokens, "provider", ["admin", "infer"], 1)
    arguments = ["--models", folder, "--tokens", tokens, "--log-format", "json"]
    with ServeProcess(tmp_path / "log", *arguments) as server:
        yield server, folder, {"Authorization": f"Bearer {token}"}


def test_models_come_and_go_by_public_clients(changing, make_bundle, tiles: np.ndarray):
    server, folder, headers = changing
    given = triton.InferInput("proxy", list(tiles.shape), "FP16")
    given.set_data_from_numpy(tiles)
    with contextlib.closing(
        triton.InferenceServerClient(server.url.removeprefix("http://"))
    ) as client:

        def version() -> str:
            answer = client.infer("tiny", [given], headers=headers).get_response()
            return answer["model_version"]

        assert version() == "1.0"
        shutil.copytree(make_bundle(version="1.10"), folder / "two")
        states = client.get_model_repository_index(headers=headers)
        assert [(one["version"], one["state"]) for one in states] == [
            ("1.0", "READY"),
            ("1.10", "UNAVAILABLE"),
        ]
        client.load_model("tiny", headers=headers)
        assert version() == "1.10"
        old = client.infer("tiny", [given], "1.0", headers=headers).get_response()
        assert old["model_version"] == "1.0"
        shutil.rmtree(folder / "one")
        client.load_model("tiny", headers=headers)
        with pytest.raises(InferenceServerException, match=r"unknown version '1\.0'"):
            client.infer("tiny", [given], "1.0", headers=headers)
        client.unload_model("tiny", headers=headers)
        assert not client.is_model_ready("tiny", headers=headers)
        assert client.is_server_ready()
        client.load_model("tiny", headers=headers)
        assert version() == "1.10"
        with pytest.raises(InferenceServerException, match="401"):
            client.infer("tiny", [given])


def test_answers_go_on_while_models_change(changing, make_bundle, tiles: np.ndarray):
    server, folder, headers = changing
    sent = encode_request(InferRequest((Tensor("proxy", tiles),)))
    with httpx.Client(timeout=120, headers=headers) as client:
        for number in range(6):
            shutil.copytree(make_bundle(version=f"2.{number}"), folder / f"two-{number}")
            load = client.post(f"{server.url}/v2/repository/models/tiny/load")
            assert load.status_code == 200, load.text
            found = client.post(server.url + INFER, content=sent.body, headers=sent.headers)
            assert found.json()["model_version"] == f"2.{number}"
            if number:
                shutil.rmtree(folder / f"two-{number - 1}")
    lines = [json.loads(line) for line in server.text.splitlines() if line.startswith("{")]
    answered = [line for line in lines if line["message"] == "answered"]
    assert len({line["request_id"] for line in answered}) == len(answered) == 12
    assert all(line["site"] == "provider" for line in answered)


def test_another_runtime_answers_the_same(make_bundle, tmp_path: Path, tiles: np.ndarray, veilseg):
    bundle = make_bundle()
    given = triton.InferInput("proxy", list(tiles.shape), "FP16")
    given.set_data_from_numpy(tiles)
    answers = []
    for runtime in ("openvino", "onnxruntime"):
        arguments = [bundle, "--runtime", runtime, "--precision", "f32"]
        with (
            ServeProcess(tmp_path / runtime, *arguments) as server,
            contextlib.closing(
                triton.InferenceServerClient(server.url.removeprefix("http://"))
            ) as client,
        ):
            answers.append(client.infer("tiny", [given]).as_numpy("answer"))
        assert "precision f32" in server.text
    np.testing.assert_allclose(*answers, atol=1e-3)
    for refused, code in ((["--precision", "bf16"], 3), (["--tune"], 2)):
        ended = veilseg("serve", bundle, "--runtime", "onnxruntime", *refused)
        assert (ended.code, len(ended.errors)) == (code, 1)


def test_a_requests_own_timeout(changing, tiles: np.ndarray):
    # Triton's clients can say how long they wait, in microseconds.
    server, _, headers = changing
    given = triton.InferInput("proxy", list(tiles.shape), "FP16")
    given.set_data_from_numpy(tiles)
    with contextlib.closing(
        triton.InferenceServerClient(server.url.removeprefix("http://"))
    ) as client:
        client.infer("tiny", [given], timeout=60_000_000, headers=headers)
        with pytest.raises(InferenceServerException, match="not computed in time") as caught:
            client.infer("tiny", [given], timeout=1, headers=headers)
        assert caught.value.status() == "504"


def test_sites_wait_while_the_queue_is_full(make_bundle, tmp_path: Path, tile: np.ndarray):
    bundle = make_bundle()
    manifest = open_client_half(bundle).manifest
    settings = {
        "VEILSEG_SERVE_QUEUE_PLACES_PER_SITE": "1",
        "VEILSEG_SERVE_AUDIT_LOG": str(tmp_path / "audit.jsonl"),
    }
    with ServeProcess(tmp_path / "log", bundle, **settings) as server:

        def scan(number: int) -> None:
            with RemoteServer(server.url, manifest, retries=0) as remote:
                for _ in range(6):
                    np.testing.assert_array_equal(remote(tile), tiny_answer(tile))

        with ThreadPoolExecutor(5) as sites:
            list(sites.map(scan, range(5)))
        assert " status=429 " in server.text, "the queue was full, or nothing is shown"
    assert verify([tmp_path / "audit.jsonl"])[1].count == 30


def test_tiles_go_on_where_one_of_two_servers_is_killed(
    make_bundle, tmp_path: Path, tile: np.ndarray
):
    bundle = make_bundle()
    manifest = open_client_half(bundle).manifest
    tiles = [tile * np.float32(0.5) ** (number % 4) for number in range(24)]
    with (
        ServeProcess(tmp_path / "one", bundle) as one,
        ServeProcess(tmp_path / "two", bundle) as two,
    ):
        remotes = [RemoteServer(server.url, manifest, retries=1) for server in (one, two)]
        with ServerGroup(remotes) as servers:
            servers.check()
            for number, answer in enumerate(servers.each(tiles)):
                np.testing.assert_array_equal(answer, tiny_answer(tiles[number]))
                if number == 4:
                    one.kill()
        assert all(" status=200 " in server.text for server in (one, two)), "both had a part"


def test_a_refusal_reaches_a_client_that_still_sends(make_bundle, tmp_path: Path):
    # Closing while bytes arrive resets the line, and the answer on it may be lost.
    tokens = tmp_path / "tokens.json"
    token_file.add(tokens, "uni", ["infer"], 1)
    head = f"POST {INFER} HTTP/1.1\r\nHost: s\r\nContent-Length: "
    with (
        ServeProcess(tmp_path / "log", make_bundle(), "--tokens", tokens) as server,
        socket.create_connection(server.address, timeout=60) as line,
    ):
        for _ in range(3):
            line.sendall(f"{head}50000\r\n\r\n".encode() + bytes(20_000))
            time.sleep(0.2)
            line.sendall(bytes(30_000))
            answer = line.recv(65536)
            assert answer.startswith(b"HTTP/1.1 401 ")
            # The line lives on for the next request.
            assert b"connection: close" not in answer.lower()
            if not answer.endswith(b"}"):
                line.recv(65536)
        # A body that nobody would take is not waited for.
        line.sendall(f"{head}100000000\r\n\r\n".encode() + bytes(1000))
        assert line.recv(65536).startswith(b"HTTP/1.1 401 ")


def tiny_answer(tile: np.ndarray) -> np.ndarray:
    return np.concatenate([1 - tile, tile])
