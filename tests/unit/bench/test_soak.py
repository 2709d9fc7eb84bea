"""A server under load for long, with a server of this process in the place of a real one."""

from collections.abc import Iterator
from contextlib import contextmanager

import phantoms
import pytest
from servers import OracleServer

from veilseg.bench import soak
from veilseg.bundle import open_client_half
from veilseg.errors import InvalidAnswer


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return phantoms.make_bundle(tmp_path_factory.mktemp("bundles") / "plain", "plain")


@pytest.fixture
def measured(bundle, monkeypatch):
    """What is found of a server that behaves so, whose memory is that."""

    def run(behaviour, memory):
        manifest = open_client_half(bundle).manifest

        @contextmanager
        def server(*_: object) -> Iterator[str]:
            with OracleServer(manifest) as oracle:
                oracle.behaviour = behaviour
                yield oracle.url

        monkeypatch.setattr(soak, "server_process", server)
        monkeypatch.setattr(soak, "resident_mib", lambda _: memory())
        return soak.measure(bundle, 0.03, 0.5, 2, 1, lambda *_: None)

    return run


def test_steady_server(measured):
    found = measured(phantoms.nearest_centre, lambda: 100.0)
    assert found["failures"] == {}
    assert found["requests"] > 10
    # Arrivals are random: within a few standard deviations of what was offered.
    assert found["answered"] == pytest.approx(found["offered"], rel=5 / found["requests"] ** 0.5)
    assert found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"]
    assert (found["memory"]["growth"], found["memory"]["first_mib"]) == (0, 100)


def test_growing_server(measured):
    sizes = iter(range(100, 100_000, 20))
    found = measured(phantoms.nearest_centre, lambda: float(next(sizes)))
    assert found["memory"]["growth"] > 0.5


def test_failures_are_counted_and_not_timed(measured):
    calls = iter(range(1_000_000))

    def behaviour(*arguments):
        if next(calls) % 2:
            raise RuntimeError("out of order")
        return phantoms.nearest_centre(*arguments)

    found = measured(behaviour, lambda: 100.0)
    failed = sum(found["failures"].values())
    assert 0 < failed < found["requests"]


def test_a_look_at_the_memory_that_fails_is_counted_and_ends_nothing(measured):
    looks = iter(range(1_000_000))

    def memory():
        if next(looks) == 3:
            raise InvalidAnswer("slow")
        return 100.0

    found = measured(phantoms.nearest_centre, memory)
    assert found["failures"] == {"metrics not told": 1}
    assert found["memory"]["growth"] == 0
