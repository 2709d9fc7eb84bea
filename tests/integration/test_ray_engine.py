"""Networks on Ray: a replica that is killed, a version that changes, ports that nobody reaches."""

import contextlib
import importlib.util
import ipaddress
import shutil
import threading
from collections.abc import Iterator

import httpx
import numpy as np
import psutil
import pytest
from processes import ServeProcess
from running import alive, descendants, until

from veilseg.access import token_file
from veilseg.wire import InferRequest, Tensor, decode_answer, encode_request
from veilseg.wire.infer import HEADER_LENGTH

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="needs Ray: pip install '.[ray]'"
    ),
]

CLIENTS = 4


@pytest.fixture(scope="module")
def server(make_bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """A server with two replicas of each model, its folder of models, and a token of an admin."""
    place = tmp_path_factory.mktemp("ray")
    tokens, folder = place / "tokens.json", place / "models"
    folder.mkdir()
    shutil.copytree(make_bundle(version="1.0"), folder / "one")
    token, _ = token_file.add(tokens, "provider", ["admin", "infer"], 1)
    replicas = {"VEILSEG_SERVE_MIN_REPLICAS": "2", "VEILSEG_SERVE_MAX_REPLICAS": "2"}
    given = ["--models", folder, "--tokens", tokens, "--engine", "ray"]
    with ServeProcess(place / "log", *given, **replicas, start_timeout_s=600) as process:
        yield process, folder, {"Authorization": f"Bearer {token}"}


class Load:
    """Clients that ask for as long as the block lasts, each answer compared."""

    def __init__(self, url: str, headers: dict[str, str], tile: np.ndarray) -> None:
        self._tile = tile[np.newaxis].astype(np.float16)
        request = InferRequest((Tensor("proxy", self._tile),), binary_outputs=True)
        self._message = encode_request(request)
        self._url, self._headers = url, headers
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        self.failures: list[str] = []
        self.versions: list[str] = []

    def _ask(self) -> None:
        expected = np.concatenate([1 - self._tile, self._tile], axis=1)
        with httpx.Client(headers=self._headers, timeout=120) as client:
            while not self._end.is_set():
                reply = client.post(
                    f"{self._url}/v2/models/tiny/infer",
                    content=self._message.body,
                    headers=self._message.headers,
                )
                if reply.status_code != 200:
                    self.failures.append(f"{reply.status_code} {reply.text}")
                    continue
                answer = decode_answer(reply.content, reply.headers[HEADER_LENGTH])
                if not np.array_equal(answer.outputs[0].array, expected):
                    self.failures.append("another answer")
                self.versions.append(answer.model_version)

    def more(self, count: int) -> None:
        """Wait for so many further answers."""
        wanted = len(self.versions) + count
        until(lambda: len(self.versions) >= wanted or self.failures, seconds=300)

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()


def test_every_port_is_on_loopback(server):
    process, _, _ = server
    family = [psutil.Process(process.process.pid), *descendants(process.process.pid)]
    assert any("raylet" in name(one) for one in family), family
    addresses = {
        (name(one), one.pid, socket.laddr.ip)
        for one in family
        for socket in one.net_connections("tcp")
        if socket.status == psutil.CONN_LISTEN
    }
    assert addresses
    assert {one for one in addresses if not is_loopback(one[-1])} == set()


def test_a_replica_that_is_killed_loses_no_request(server, tile: np.ndarray):
    process, _, headers = server
    with Load(process.url, headers, tile) as load:
        load.more(20)
        family = descendants(process.process.pid)
        replicas = [one for one in family if name(one).startswith("ray::ServeReplica")]
        assert len(replicas) >= 2
        replicas[0].kill()
        load.more(40)
    assert load.failures == []


def test_a_new_version_comes_without_a_failed_request(server, make_bundle, tile: np.ndarray):
    process, folder, headers = server
    with Load(process.url, headers, tile) as load:
        load.more(5)
        shutil.copytree(make_bundle(version="2.0"), folder / "two")
        shutil.rmtree(folder / "one")
        reply = httpx.post(
            f"{process.url}/v2/repository/models/tiny/load", headers=headers, timeout=600
        )
        assert reply.status_code == 200, reply.text
        load.more(20)
    assert load.failures == []
    assert load.versions[0] == "1.0"
    assert load.versions[-CLIENTS:] == ["2.0"] * CLIENTS


def test_it_ends_with_all_of_ray(server):
    process, _, _ = server
    family = descendants(process.process.pid)
    process.process.terminate()
    assert process.process.wait(120) == 0
    until(lambda: not any(map(alive, family)))


def name(process: psutil.Process) -> str:
    """Of a process as Ray writes it into its command line; nothing of one that is gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""


def is_loopback(address: str) -> bool:
    """127.0.0.1 or ::1, or the first written in the second's family."""
    found = ipaddress.ip_address(address)
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback
