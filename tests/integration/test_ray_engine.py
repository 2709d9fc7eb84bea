"""Networks on Ray: a replica that is killed, a version that changes, ports that nobody reaches."""

import importlib.util
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from processes import ServeProcess

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
        wanted, deadline = len(self.versions) + count, time.monotonic() + 300
        while len(self.versions) < wanted and not self.failures:
            assert time.monotonic() < deadline
            time.sleep(0.05)

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
    family = descendants(process.process.pid)
    assert any("raylet" in command for command in family.values()), family
    addresses = listening(family)
    assert addresses
    assert {who: where for who, where in addresses.items() if not is_loopback(where)} == {}


def test_a_replica_that_is_killed_loses_no_request(server, tile: np.ndarray):
    process, _, headers = server
    with Load(process.url, headers, tile) as load:
        load.more(20)
        replicas = [
            pid
            for pid, command in descendants(process.process.pid).items()
            if command.startswith("ray::ServeReplica")
        ]
        assert len(replicas) >= 2
        os.kill(replicas[0], signal.SIGKILL)
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
    deadline = time.monotonic() + 60
    while left := [pid for pid in family if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, [family[pid] for pid in left]
        time.sleep(0.1)


def descendants(root: int) -> dict[int, str]:
    """Processes below one, each with its command line, which Ray's own rewrite."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                # The name in brackets may hold anything, so that fields are counted from its end.
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(folder.name)] = int(fields[1])
    family = {root}
    while new := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= new
    found = {}
    for pid in family:
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        found[pid] = line.replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def listening(pids: dict[int, str]) -> dict[str, str]:
    """Local addresses, in hexadecimal, on which processes listen, by socket and process."""
    owners = {}
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                target = str(link.readlink())
            except OSError:
                continue
            if found := re.fullmatch(r"socket:\[(\d+)\]", target):
                owners[found[1]] = pids[pid]
    addresses = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            # 0A is the state of a socket that listens.
            if fields[3] == "0A" and fields[9] in owners:
                addresses[f"{fields[9]} {owners[fields[9]]}"] = fields[1].partition(":")[0]
    return addresses


def is_loopback(address: str) -> bool:
    """127.0.0.1, ::1, or the first within the second's family; words are in the machine's order."""
    return address in {
        "0100007F",
        "00000000000000000000000001000000",
        "0000000000000000FFFF00000100007F",
    }
