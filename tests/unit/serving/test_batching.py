"""Turns, batches, deadlines and what becomes of a request whose client left."""

import threading
from concurrent.futures import CancelledError

import numpy as np
import pytest

from veilseg.serving import batching
from veilseg.serving.batching import Batcher, FairQueue
from veilseg.serving.errors import DeadlinePassed, ModelError, ModelNotReady


def tiles(*values: float) -> np.ndarray:
    return np.array(values, np.float16).reshape(-1, 1)


class Network:
    """Doubles what it gets; waits while it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        self.go = threading.Event()
        self.go.set()
        self.busy = threading.Event()

    def __call__(self, batch: np.ndarray) -> list:
        self.batches.append(batch.ravel().tolist())
        self.busy.set()
        assert self.go.wait(60)
        return [ModelError("bad tile") if tile[0] < 0 else 2 * tile for tile in batch]


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def start(network: Network):
    """A batcher whose network is busy with a tile of nobody's until ``network.go`` is set."""
    running: list[Batcher] = []

    def build(**options) -> Batcher:
        batcher = Batcher(network, **options)
        running.append(batcher)
        network.go.clear()
        batcher.submit(tiles(0), "nobody", 60)
        assert network.busy.wait(60)
        return batcher

    yield build
    network.go.set()
    for batcher in running:
        batcher.close()


def test_sites_take_turns():
    queue: FairQueue[str] = FairQueue()
    for site, count in (("a", 5), ("b", 2), ("c", 1)):
        for number in range(count):
            queue.put(site, f"{site}{number}")
    taken = [queue.take() for _ in range(5)]
    queue.put("d", "d0")
    taken += [queue.take() for _ in range(len(queue))]
    assert taken == ["a0", "b0", "c0", "a1", "b1", "a2", "d0", "a3", "a4"]
    with pytest.raises(KeyError):
        queue.take()


def test_one_site_cannot_starve_another(start, network: Network):
    batcher = start()
    flood = [batcher.submit(tiles(*range(10, 18)), "greedy", 60) for _ in range(20)]
    late = batcher.submit(tiles(1, 2), "small", 60)
    network.go.set()
    assert late.answers.result(60).ravel().tolist() == [2, 4]
    # Before each tile of the small site there was one of the greedy one, of 160.
    assert network.batches.index([2.0]) <= 4
    for job in flood:
        assert len(job.answers.result(60)) == 8


def test_batches_are_filled_across_sites(start, network: Network):
    batcher = start(batch_size=4)
    jobs = [batcher.submit(tiles(n, n + 0.5), f"site{n}", 60) for n in (1, 2, 3)]
    network.go.set()
    assert [job.answers.result(60).ravel().tolist() for job in jobs] == [[2, 3], [4, 5], [6, 7]]
    assert network.batches[1:] == [[1, 2, 3, 1.5], [2.5, 3.5]]


def test_a_batch_waits_for_company(network: Network):
    batcher = Batcher(network, batch_size=2, wait_s=30)
    first = batcher.submit(tiles(1), "a", 60)
    second = batcher.submit(tiles(2), "b", 60)
    assert (first.answers.result(60), second.answers.result(60)) == (2, 4)
    assert network.batches == [[1, 2]]
    batcher.close()
    alone = Batcher(network, batch_size=2, wait_s=0.01)
    assert alone.submit(tiles(3), "a", 60).answers.result(60) == 6
    alone.close()


def test_an_error_is_of_one_request(start, network: Network):
    batcher = start(batch_size=4)
    bad, good = batcher.submit(tiles(5, -1), "a", 60), batcher.submit(tiles(6, 7), "b", 60)
    network.go.set()
    with pytest.raises(ModelError, match="bad tile"):
        bad.answers.result(60)
    assert good.answers.result(60).ravel().tolist() == [12, 14]


def test_a_crash_ends_neither_the_thread_nor_tells_data():
    def breaks(batch: np.ndarray) -> list:
        if batch[0] == 1:
            raise ValueError(f"pixels {batch}")
        return list(batch)

    batcher = Batcher(breaks)
    with pytest.raises(ModelError, match=r"^the model failed \(ValueError\)$"):
        batcher.submit(tiles(1), "a", 60).answers.result(60)
    assert batcher.submit(tiles(2), "a", 60).answers.result(60) == 2
    batcher.close()


def test_what_nobody_waits_for_is_not_computed(start, network: Network):
    batcher = start()
    left = batcher.submit(tiles(3, 4), "a", 60)
    stays = batcher.submit(tiles(5), "b", 60)
    assert left.answers.cancel()
    network.go.set()
    assert stays.answers.result(60) == 10
    with pytest.raises(CancelledError):
        left.answers.result(60)
    assert network.batches == [[0], [5]]


def test_what_nobody_waits_for_is_held_no_longer(start, network: Network):
    """Not until its turn comes, which another site's tiles can put off for ever."""
    batcher = start()
    busy = [batcher.submit(tiles(n), "busy", 60) for n in range(1, 4)]
    left = batcher.submit(tiles(*range(10, 60)), "leaver", 60)
    late = batcher.submit(tiles(8), "leaver", 60)
    assert len(batcher) == 54
    assert left.answers.cancel()
    assert len(batcher) == 4
    network.go.set()
    assert late.answers.result(60) == 16
    assert [job.answers.result(60).item() for job in busy] == [2, 4, 6]


def test_no_memory_for_a_batch_ends_no_thread(network: Network, monkeypatch):
    batcher = Batcher(network)
    with monkeypatch.context() as patch:
        patch.setattr(batching.np, "stack", raises(MemoryError))
        with pytest.raises(ModelError, match="MemoryError"):
            batcher.submit(tiles(1), "a", 60).answers.result(60)
    assert batcher.submit(tiles(2), "a", 60).answers.result(60) == 4
    batcher.close()


def raises(error: type[Exception]):
    def function(*_: object) -> None:
        raise error

    return function


def test_a_client_that_leaves_in_between(network: Network):
    first_done, left = threading.Event(), threading.Event()

    def compute(batch: np.ndarray) -> list:
        if batch[0] == 4:
            first_done.set()
            assert left.wait(60)
        return network(batch)

    batcher = Batcher(compute)
    job = batcher.submit(tiles(3, 4, 5, 6), "a", 60)
    assert first_done.wait(60)
    job.answers.cancel()
    left.set()
    assert batcher.submit(tiles(7), "a", 60).answers.result(60) == 14
    assert network.batches == [[3], [4], [7]]
    batcher.close()


def test_deadlines(network: Network):
    now = [0.0]
    batcher = Batcher(network, clock=lambda: now[0])
    network.go.clear()
    batcher.submit(tiles(0), "nobody", 60)
    assert network.busy.wait(60)
    late, early = batcher.submit(tiles(1), "a", 5), batcher.submit(tiles(2), "a", 50)
    now[0] = 5.0
    network.go.set()
    with pytest.raises(DeadlinePassed, match="not computed in time"):
        late.answers.result(60)
    assert early.answers.result(60) == 4
    assert network.batches == [[0], [2]]
    batcher.close()


def test_closing_finishes_what_waits(start, network: Network):
    batcher = start(batch_size=2)
    jobs = [batcher.submit(tiles(n), "a", 60) for n in (1, 2, 3)]
    closing = threading.Thread(target=batcher.close)
    closing.start()
    network.go.set()
    closing.join(60)
    assert [job.answers.result(0).item() for job in jobs] == [2, 4, 6]
    with pytest.raises(ModelNotReady, match="being unloaded"):
        batcher.submit(tiles(1), "a", 60)


def test_how_far_behind(network: Network):
    now = [0.0]

    def slow(batch: np.ndarray) -> list:
        found = network(batch)
        now[0] += 3.0
        return found

    batcher = Batcher(slow, batch_size=2, clock=lambda: now[0])
    assert batcher.seconds_behind == 0
    batcher.submit(tiles(1), "a", 60).answers.result(60)
    network.go.clear()
    network.busy.clear()
    batcher.submit(tiles(1), "a", 60)
    assert network.busy.wait(60)
    batcher.submit(tiles(1, 2, 3), "a", 60)
    assert batcher.seconds_behind == pytest.approx(6.0)
    network.go.set()
    batcher.close()


def test_an_observer_hears_of_batches(start, network: Network):
    heard = []

    class Observer:
        def batch(self, tiles, waited_s, seconds):
            heard.append((tiles, len(waited_s), seconds >= 0))

    batcher = start(batch_size=2, observer=Observer())
    job = batcher.submit(tiles(1, 2, 3), "a", 60)
    network.go.set()
    job.answers.result(60)
    batcher.close()
    assert heard == [(1, 1, True), (2, 2, True), (1, 1, True)]


def test_batches_side_by_side(network: Network):
    batcher = Batcher(network, workers=2)
    network.go.clear()
    jobs = [batcher.submit(tiles(value), "a", 60) for value in (1, 2)]
    while len(network.batches) < 2:
        network.busy.wait(0.01)
    assert sorted(network.batches) == [[1.0], [2.0]]
    network.go.set()
    assert [job.answers.result(60).item() for job in jobs] == [2.0, 4.0]
    batcher.close()
    with pytest.raises(ModelNotReady):
        batcher.submit(tiles(1), "a", 60)
