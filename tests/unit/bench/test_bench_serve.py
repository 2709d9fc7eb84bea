"""Servers compared under load, with servers of this process in the place of real ones."""

from collections.abc import Iterator
from contextlib import contextmanager

import phantoms
import pytest
from servers import OracleServer

from veilseg.bench import servers
from veilseg.bench.contenders import NotRun
from veilseg.bench.plan import calibrated
from veilseg.bench.serve import ROUNDS, measure
from veilseg.bench.servers import OURS, Setup, free_ports, peer
from veilseg.bundle import open_client_half, open_server_half


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    folder = phantoms.make_bundle(tmp_path_factory.mktemp("bundles") / "plain", "plain")
    nowhere = tmp_path_factory.mktemp("peers")
    return Setup(folder, open_server_half(folder), "f32", 1, nowhere)


@contextmanager
def oracles(setup: Setup, replicas: int) -> Iterator[list[str]]:
    """As many servers as wanted, each of which answers rightly."""
    manifest = open_client_half(setup.folder).manifest
    opened = [OracleServer(manifest) for _ in range(replicas)]
    try:
        for one in opened:
            one.behaviour = phantoms.nearest_centre
            one.__enter__()
        yield [one.url for one in opened]
    finally:
        for one in opened:
            one.__exit__(None, None, None)


def test_every_server_is_there_or_says_why_not(setup: Setup, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("veilseg.bench.serve.CALM_S", 0.0)
    contenders = {OURS: oracles, "Triton": peer("Triton"), "other": oracles}
    found = measure(setup, (1, 3), (1, 2), 0.0, lambda *_: None, contenders)
    rows = {(row["server"], row["replicas"]): row for row in found["servers"]}
    assert list(rows) == [(OURS, 1), (OURS, 2), ("Triton", 1), ("other", 1)]
    reason = rows["Triton", 1]["status"]
    assert reason == "not run: no environment triton: make bench-peers"
    for key in ((OURS, 1), (OURS, 2), ("other", 1)):
        row = rows[key]
        assert row["status"] == "run"
        assert row["agreement"]["same_class"] == 1.0
        for clients, figures in row["clients"].items():
            # In each round two requests of each client, at least.
            assert figures["n"] >= ROUNDS * 2 * int(clients)
            assert figures["failures"] == {}
            assert figures["p95_ms"] >= figures["p50_ms"] > 0
            assert len(figures["of_bare"]["each"]) == found["n_rounds"] == ROUNDS
    (scaled,) = found["scaling"]
    assert (scaled["server"], scaled["replicas"]) == (OURS, 2)
    best = found["against_best_peer"]
    assert (best["status"], best["1"]["peer"]) == ("run", "other ×1")
    assert found["bare"]["throughput"] > 0
    assert calibrated(found).received == found["bytes"]["received"] > found["bytes"]["sent"] / 2


def test_without_peers_nothing_is_compared(setup: Setup, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("veilseg.bench.serve.CALM_S", 0.0)
    found = measure(setup, (1,), (1,), 0.0, lambda *_: None, {OURS: oracles})
    assert found["against_best_peer"]["status"].startswith("not run: ")


def test_a_peer_without_its_environment(setup: Setup):
    with (
        pytest.raises(NotRun, match="no environment ray: make bench-peers"),
        peer("Ray Serve")(setup, 1),
    ):
        pass
    for program, _ in servers.PROGRAMS.values():
        assert (servers.PEERS / program).is_file()


def test_free_ports_are_in_a_row():
    assert 1024 <= free_ports(2) <= 65534
