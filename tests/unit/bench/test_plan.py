"""What is planned from a measurement."""

import pytest

from veilseg.bench.plan import Assumptions, calibrated, fronts_needed, limits, measure
from veilseg.errors import InvalidInput


def run(throughput: float, p50_ms: float) -> dict:
    return {
        "n": 10,
        "throughput": throughput,
        "p50_ms": p50_ms,
        "p95_ms": p50_ms,
        "mean_ms": p50_ms,
    }


def served() -> dict:
    """A network of 100 ms behind a server that adds 10 ms and overlaps with it."""
    return {
        "commit": "c",
        "threads": 1,
        "bare": {"mean_ms": 100.0},
        "bytes": {"sent": 250_000, "received": 1_000_000},
        "servers": [
            {
                "server": "veilseg",
                "replicas": 1,
                "status": "run",
                "clients": {"1": run(9.09, 110.0), "8": run(10.0, 800.0)},
            },
            {
                "server": "veilseg",
                "replicas": 2,
                "status": "run",
                "clients": {"8": run(20.0, 400.0)},
            },
            {"server": "Triton", "replicas": 1, "status": "not run: no environment"},
        ],
    }


def quiet(*_: object) -> None:
    pass


def test_what_is_read_from_a_measurement():
    found = calibrated(served())
    assert found.replica_s == pytest.approx(0.1)
    assert found.front_s == pytest.approx(0.01)
    assert (found.threads, found.sent, found.received) == (1, 250_000, 1_000_000)
    for broken in ({}, {**served(), "servers": []}, {**served(), "bytes": None}):
        with pytest.raises(InvalidInput, match="no result of veilseg bench serve"):
            calibrated(broken)


def test_what_breaks_first():
    found = calibrated(served())
    # A front of 10 ms feeds ten replicas of 100 ms; a link of 10 Gbit/s carries 1,250 answers of
    # 8 Mbit a second, which are those of 125 replicas.
    assert limits(found, Assumptions())["replicas"] == {"front": 10.0, "front's link": 125.0}
    assert limits(found, Assumptions())["first"] == "front"
    narrow = Assumptions(front_mbit_per_s=100.0)
    assert limits(found, narrow)["first"] == "front's link"
    # 100 replicas at 80 %: 800 tiles/s, 8 fronts' time, at most 80 % busy.
    assert fronts_needed(found, Assumptions(), 100) == 10
    assert fronts_needed(found, Assumptions(), 1) == 1


def test_a_plan():
    found = measure(served(), Assumptions(tiles_per_scan=4), quiet, (1, 20), scans=200)
    assert (found["bench"], found["calibrated_at"]) == ("plan", "c")
    ratios = [row["throughput"]["ratio"] for row in found["validation"]]
    assert [(row["replicas"], row["clients"]) for row in found["validation"]] == [
        *((1, 1), (1, 8)),
        (2, 8),
    ]
    assert ratios == pytest.approx([1.0, 1.0, 1.0], abs=0.02)
    one, twenty, with_fronts = found["points"]
    assert (one["replicas"], one["fronts"], one["status"]) == (1, 1, "simulated")
    assert one["utilisation"]["replicas"] == pytest.approx(0.8, abs=0.1)
    # Two scans per second and replica at 80 % of 2.5, at 0.05 an hour.
    assert one["cost_per_1000_scans"] == pytest.approx(0.05 / 3600 / 2 * 1000, rel=1e-3)
    assert one["site_mbit_per_scan"] == 40.0
    assert twenty["status"] == "breaks: front"
    assert (with_fronts["fronts"], with_fronts["status"]) == (2, "simulated")
    assert with_fronts["scan_p95_s"] < one["scan_p95_s"]
