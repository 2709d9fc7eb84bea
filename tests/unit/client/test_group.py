"""Tiles over several servers: in order, side by side, and with one lost."""

import threading
from itertools import count

import numpy as np
import pytest

from veilseg.client import group
from veilseg.client.group import TILES_PER_SERVER, ServerGroup
from veilseg.client.processor import answers_of
from veilseg.errors import BundleIntegrity, InvalidAnswer, ServerRefused, ServerUnreachable


class FakeServer:
    """Doubles tiles; fails where it is told to."""

    def __init__(self, name: str, *failures: Exception | None, barrier=None) -> None:
        self.name, self.failures, self.barrier = name, list(failures), barrier
        self.tiles: list[float] = []
        self.bytes_sent, self.bytes_received, self.closed = 0, 0, False
        self.busy = threading.Lock()

    def check(self) -> None:
        self._fail()

    def __call__(self, tile: np.ndarray) -> np.ndarray:
        assert self.busy.acquire(blocking=False), "a server is for one thread at a time"
        try:
            if self.barrier is not None:
                self.barrier.wait(timeout=20)
            self._fail()
            self.tiles.append(float(tile))
            self.bytes_sent, self.bytes_received = self.bytes_sent + 3, self.bytes_received + 5
            return 2 * tile
        finally:
            self.busy.release()

    def _fail(self) -> None:
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure

    def close(self) -> None:
        self.closed = True


GONE = ServerUnreachable("http://one: gone")
TILES = [np.float32(number) for number in range(20)]


def test_answers_come_in_the_order_of_the_tiles():
    servers = [FakeServer("one"), FakeServer("two"), FakeServer("three")]
    with ServerGroup(servers) as group:
        assert list(answers_of(group, TILES)) == [2 * tile for tile in TILES]
        assert (group.bytes_sent, group.bytes_received) == (60, 100)
    assert sorted(tile for one in servers for tile in one.tiles) == TILES, "each tile was sent once"
    assert all(server.closed for server in servers)


def test_servers_work_side_by_side():
    # Each waits until the other has a tile as well: one after the other would never end.
    barrier = threading.Barrier(2)
    servers = [FakeServer("one", barrier=barrier), FakeServer("two", barrier=barrier)]
    assert list(ServerGroup(servers).each(TILES)) == [2 * tile for tile in TILES]
    assert len(servers[0].tiles) == len(servers[1].tiles) == 10


@pytest.mark.parametrize("error", [GONE, ServerRefused("http://one: 503 draining")])
def test_the_tile_of_a_lost_server_goes_to_another(error):
    lost, other = FakeServer("one", None, error), FakeServer("two")
    assert list(ServerGroup([lost, other]).each(TILES)) == [2 * tile for tile in TILES]
    assert sorted(lost.tiles + other.tiles) == TILES
    assert len(lost.tiles) <= 1


def test_a_lost_server_is_asked_again_after_a_while(monkeypatch):
    clock = count()
    monkeypatch.setattr(group.time, "monotonic", lambda: next(clock) * group.AWAY_S)
    lost, other = FakeServer("one", GONE), FakeServer("two")
    assert list(ServerGroup([lost, other]).each(TILES)) == [2 * tile for tile in TILES]
    assert lost.tiles, "it came back"


def test_an_image_is_lost_when_no_server_is_left():
    servers = [FakeServer("one", GONE), FakeServer("two", ServerUnreachable("http://two: gone"))]
    with pytest.raises(ServerUnreachable, match=r"^http://(one|two): gone$"):
        list(ServerGroup(servers).each(TILES))


def test_servers_that_hang_in_turn_do_not_hold_a_tile_for_ever(monkeypatch):
    """Giving one up takes longer than the others are left out for."""
    clock = count()
    monkeypatch.setattr(group.time, "monotonic", lambda: next(clock) * group.AWAY_S)
    servers = [FakeServer(name, *[GONE] * 1000) for name in ("one", "two", "three")]
    with pytest.raises(ServerUnreachable, match="gone"):
        ServerGroup(servers)(TILES[1])


@pytest.mark.parametrize("error", [InvalidAnswer("nonsense"), BundleIntegrity("another")])
def test_what_another_server_would_not_mend_ends_it(error):
    servers = [FakeServer("one", error), FakeServer("two")]
    with pytest.raises(type(error), match=str(error)):
        list(ServerGroup(servers).each(TILES))
    assert len(servers[1].tiles) <= 2 * TILES_PER_SERVER + 1, "nothing is sent any more"


def test_check_passes_while_one_server_is_left():
    servers = [FakeServer("one", GONE), FakeServer("two")]
    spread = ServerGroup(servers)
    spread.check()
    assert spread(TILES[1]) == 2
    assert servers[1].tiles == [1]


def test_check_tells_the_reason_of_the_first():
    servers = [FakeServer("one", GONE), FakeServer("two", ServerRefused("http://two: no model"))]
    with pytest.raises(ServerUnreachable, match=r"^http://one: gone$"):
        ServerGroup(servers).check()


def test_check_refuses_a_server_of_another_bundle():
    with pytest.raises(BundleIntegrity, match="another"):
        ServerGroup([FakeServer("one"), FakeServer("two", BundleIntegrity("another"))]).check()


def test_tiles_are_taken_a_few_ahead_alone():
    taken = []
    servers = [FakeServer("one"), FakeServer("two")]
    answers = ServerGroup(servers).each(taken.append(tile) or tile for tile in TILES)
    assert next(answers) == 0
    assert len(taken) == 2 * TILES_PER_SERVER
    answers.close()
    assert len(servers[0].tiles + servers[1].tiles) <= len(taken)
