"""The simulation against closed forms.

A queue of c servers of rate μ forgets its state in about τ = 1/(√(cμ) − √λ)² seconds (9 s for the
settings of M/M/c below), so that a run of T seconds is worth T/2τ independent waits: at least 140.
A wait is 0 or, with Erlang's probability C, exponential: its deviation is √(2/C − 1) ≤ 2 means.
Two standard errors are then a third of the mean at most, for a seed that is fixed.
"""

import math

import pytest

from veilseg.bench.queueing import (
    Scan,
    Station,
    closed_loop,
    constant,
    exponential,
    open_queue,
    wait_in_md1,
    wait_in_mmc,
)

SCANS = 20_000


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_one_server_that_always_takes_as_long(load: float):
    found = open_queue(load / 2, [Station("one", 1, constant(2.0))], Scan(), SCANS)
    assert found.waits_s.mean() == pytest.approx(wait_in_md1(load / 2, 2.0), rel=0.15)
    assert found.utilisation["one"] == pytest.approx(load, rel=0.05)
    assert found.throughput == pytest.approx(load / 2, rel=0.05)


@pytest.mark.parametrize(("servers", "load"), [(4, 0.7), (10, 0.8)])
def test_servers_without_memory(servers: int, load: float):
    per_s = load * servers
    found = open_queue(per_s, [Station("c", servers, exponential(1.0))], Scan(), SCANS)
    assert found.waits_s.mean() == pytest.approx(wait_in_mmc(per_s, 1.0, servers), rel=0.33)
    assert found.utilisation["c"] == pytest.approx(load, rel=0.05)


def test_closed_forms_agree_where_they_meet():
    # M/M/1: ρ·s / (1 − ρ), twice that of M/D/1.
    assert wait_in_mmc(0.6, 1.0, 1) == pytest.approx(0.6 / 0.4)
    assert wait_in_mmc(0.6, 1.0, 1) == pytest.approx(2 * wait_in_md1(0.6, 1.0))
    # M/M/2 by hand: ρ² s / (1 − ρ²).
    assert wait_in_mmc(1.2, 1.0, 2) == pytest.approx(0.36 / 0.64)
    assert math.isfinite(wait_in_mmc(900.0, 1.0, 1000))


def test_a_scan_has_a_few_tiles_under_way():
    # Nobody else is there: five tiles, two at a time, one second each on many servers.
    station = Station("many", 100, constant(1.0))
    found = open_queue(1e-3, [station], Scan(tiles=5, under_way=2), 20)
    assert found.latencies_s == pytest.approx(3.0)
    # The link carries one at a time: tiles go out at 0, 10, 20 … and the last comes back at 52.
    slow = Scan(tiles=5, under_way=5, up_s=10.0, down_s=1.0)
    assert open_queue(1e-4, [station], slow, 5).latencies_s == pytest.approx(52.0)


def test_a_closed_loop_is_bounded_by_its_slowest_station():
    stations = [Station("front", 1, constant(0.25)), Station("replicas", 1, constant(1.0))]
    alone = closed_loop(1, [stations], 400)
    assert alone.latencies_s == pytest.approx(1.25)
    assert alone.throughput == pytest.approx(0.8)
    many = closed_loop(8, [stations], 400)
    assert many.throughput == pytest.approx(1.0, rel=0.02)
    # Little's law.
    assert many.latencies_s.mean() == pytest.approx(8.0, rel=0.02)
    two = closed_loop(8, [stations, stations], 400)
    assert two.throughput == pytest.approx(2.0, rel=0.03)
    assert set(two.utilisation) == {"front", "replicas"}
