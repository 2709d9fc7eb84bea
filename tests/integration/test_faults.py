"""Scans over a line that breaks to a server that dies: the right result, or one line and none."""

import contextlib
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import phantoms
import pytest
from faults import FaultyRelay
from processes import ServeProcess


@pytest.fixture
def long_scan(tmp_path: Path) -> Path:
    """A scan of a dozen tiles."""
    return phantoms.write_nifti(
        tmp_path / "scan.nii.gz", phantoms.raw_image(phantoms.truth((30, 44, 30)))
    )


class Mortal:
    """A server that is killed and comes back, elsewhere, while others talk to it."""

    def __init__(self, relay: FaultyRelay, folder: Path, bundle: Path) -> None:
        self._relay, self._folder, self._bundle = relay, folder, bundle
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._live)
        self._lives = random.Random(5)
        self.deaths = 0

    def __enter__(self) -> "Mortal":
        self._server = ServeProcess(self._folder / "log0", self._bundle)
        self._relay.target = self._server.address
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ending.set()
        self._thread.join()
        self._server.kill()

    def _live(self) -> None:
        while not self._ending.wait(self._lives.uniform(0.5, 6)):
            self._server.kill()
            self.deaths += 1
            self._server = ServeProcess(self._folder / f"log{self.deaths}", self._bundle)
            self._relay.target = self._server.address


class KilledInTheMiddle:
    """A server that is killed once in each scan, after some tiles were answered."""

    def __init__(self, relay: FaultyRelay, folder: Path, bundle: Path, after_bytes: int) -> None:
        self._relay, self._folder, self._bundle = relay, folder, bundle
        self._after_bytes = after_bytes
        self._server = ServeProcess(folder / "log", bundle)
        relay.target = self._server.address
        self.hits = 0

    @contextlib.contextmanager
    def once(self) -> Iterator[None]:
        """Kill it in this block."""
        before, over = self._relay.answered, threading.Event()
        thread = threading.Thread(target=self._kill, args=(before + self._after_bytes, over))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _kill(self, at_bytes: int, over: threading.Event) -> None:
        while self._relay.answered < at_bytes:
            if over.wait(0.002):
                return
        self._server.kill()
        self.hits += not over.is_set()
        self._server = ServeProcess(self._folder / f"log{self.hits}", self._bundle)
        self._relay.target = self._server.address

    def end(self) -> None:
        """The last one."""
        self._server.kill()


def rounds(
    count: int,
    veilseg: Callable,
    plain_bundle: Path,
    scan: Path,
    tmp_path: Path,
) -> tuple[int, int, FaultyRelay, int]:
    """How many scans succeeded and how many failed, each as it should."""
    undisturbed = tmp_path / "undisturbed.nii.gz"
    given = ["segment", scan, "--bundle", plain_bundle]
    with ServeProcess(tmp_path / "log", plain_bundle) as server:
        ended = veilseg(*given, "--server", server.url, "-o", undisturbed)
        assert ended.code == 0, ended.err
    expected = phantoms.read_labels(undisturbed)
    assert len(np.unique(expected)) == 3
    good = bad = 0
    logs = tmp_path / "logs"
    results = tmp_path / "results"
    logs.mkdir()
    results.mkdir()
    with (
        FaultyRelay(("127.0.0.1", 1), seed=11, share=0.4) as relay,
        Mortal(relay, logs, plain_bundle) as server,
    ):
        for number in range(count):
            out = results / f"{number}.nii.gz"
            ended = veilseg(*given, "--server", relay.url, "--timeout-s", 1.5, "-o", out)
            if ended.code == 0:
                good += 1
                np.testing.assert_array_equal(phantoms.read_labels(out), expected)
                out.unlink()
            else:
                bad += 1
                assert ended.code == 4, ended.err
                (line,) = ended.errors
                assert line.startswith("veilseg: ")
                assert relay.url in line
            assert list(results.iterdir()) == [], "nothing half is left"
            time.sleep(0.2)
    return good, bad, relay, server.deaths


def test_scans_over_a_line_that_breaks(
    veilseg: Callable,
    plain_bundle: Path,
    long_scan: Path,
    tmp_path: Path,
):
    good, bad, relay, deaths = rounds(5, veilseg, plain_bundle, long_scan, tmp_path)
    assert good + bad == 5
    assert deaths >= 1
    # The line did break: connections met faults, not luck.
    assert sum(count for fault, count in relay.faults.items() if fault != "none") >= 2


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_many_scans_over_a_line_that_breaks(
    veilseg: Callable,
    plain_bundle: Path,
    long_scan: Path,
    tmp_path: Path,
):
    good, bad, relay, deaths = rounds(20, veilseg, plain_bundle, long_scan, tmp_path)
    assert good + bad == 20
    # Retries are worth something: not every scan that met a fault was lost.
    assert good >= 1
    assert deaths >= 5
    assert all(relay.faults[fault] for fault in ("refuse", "reset", "cut", "slow"))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_server_that_is_killed_in_the_middle_of_every_scan(
    veilseg: Callable, plain_bundle: Path, long_scan: Path, tmp_path: Path
):
    given = ["segment", long_scan, "--bundle", plain_bundle]
    undisturbed, told = tmp_path / "undisturbed.nii.gz", tmp_path / "told.json"
    with ServeProcess(tmp_path / "log", plain_bundle) as server:
        ended = veilseg(*given, "--server", server.url, "-o", undisturbed, "--json", told)
        assert ended.code == 0, ended.err
    (one,) = json.loads(told.read_text())["images"]
    good = 0
    with FaultyRelay(("127.0.0.1", 1), seed=0, share=0) as relay:
        server = KilledInTheMiddle(relay, tmp_path, plain_bundle, one["bytes_received"] // 3)
        for number in range(20):
            out = tmp_path / f"{number}.nii.gz"
            with server.once():
                ended = veilseg(*given, "--server", relay.url, "-o", out)
            assert ended.code in (0, 4), ended.err
            assert out.exists() == (ended.code == 0)
            if out.exists():
                good += 1
                found = phantoms.read_labels(out)
                np.testing.assert_array_equal(found, phantoms.read_labels(undisturbed))
            else:
                assert len(ended.errors) == 1
        server.end()
    assert server.hits == 20, "every kill has to meet a scan"
    # It is back within the retries: the site waits for it.
    assert good >= 18
