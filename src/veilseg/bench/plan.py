"""``veilseg bench plan``: what more machines would bring, simulated from measured times.

Calibrated with what ``veilseg bench serve`` measured, compared with its runs of one and of two
replicas, then taken to many replicas behind one front, or as many fronts as they need.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from veilseg.bench.queueing import Outcome, Scan, Station, closed_loop, constant, open_queue
from veilseg.bench.record import record
from veilseg.bench.rounds import significant
from veilseg.errors import InvalidInput

REPLICAS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
SERVER: Final = "veilseg"
# Of tiles in a closed loop: the tenth decimal of a deterministic model does not matter.
TILES: Final = 4000
SCANS: Final = 2000
LENGTHS: Final = 20
# A front is added before the others work more than so much of their time.
BUSIEST_FRONT: Final = 0.8


@dataclass(frozen=True)
class Calibration:
    """What was measured.

    Attributes
    ----------
    replica_s : float
        A network takes for a tile, by the bare loop.
    front_s : float
        A server adds to that when nobody waits: all that is not the network.
    threads : int
        Of a replica.
    sent, received : int
        Bytes of a tile and of its answer.
    """

    replica_s: float
    front_s: float
    threads: int
    sent: int
    received: int


@dataclass(frozen=True)
class Assumptions:
    """What was not measured, and anybody may set otherwise.

    Attributes
    ----------
    tiles_per_scan : int
    under_way : int
        Tiles of a scan on their way at a time.
    load : float
        Share of the replicas' capacity that is asked for.
    site_mbit_per_s, front_mbit_per_s : float
        Of a site's link and of a front's, in each direction.
    price_per_core_hour : float
        In whatever currency.
    """

    tiles_per_scan: int = 8
    under_way: int = 2
    load: float = 0.8
    site_mbit_per_s: float = 100.0
    front_mbit_per_s: float = 10_000.0
    price_per_core_hour: float = 0.05


def calibrated(serve: Mapping[str, Any]) -> Calibration:
    """Read a document of ``veilseg bench serve``.

    Raises
    ------
    InvalidInput
        If it is none, or our server did not run with one client.
    """
    try:
        alone = _runs(serve)[1]["1"]["mean_ms"] / 1000
        replica_s = serve["bare"]["mean_ms"] / 1000
        message = serve["bytes"]
        return Calibration(
            replica_s,
            max(alone - replica_s, 1e-6),
            int(serve["threads"]),
            int(message["sent"]),
            int(message["received"]),
        )
    except (KeyError, TypeError) as error:
        raise InvalidInput(
            f"calibration: no result of veilseg bench serve with 1 replica and 1 client ({error})"
        ) from error


def measure(
    serve: Mapping[str, Any],
    assumptions: Assumptions,
    progress: Callable[[int, int, str], None],
    replicas: Sequence[int] = REPLICAS,
    scans: int = SCANS,
) -> dict[str, Any]:
    """Simulate; JSON-ready.

    Parameters
    ----------
    serve : mapping
        Result of ``veilseg bench serve``.
    assumptions : Assumptions
    progress : callable
    replicas : sequence of int
    scans : int
        Of each simulation, at least; more where there are more replicas.
    """
    found = calibrated(serve)
    points = []
    for number, count in enumerate(replicas):
        progress(number, len(replicas), f"{count} replicas")
        points += [
            _point(found, assumptions, count, fronts, scans)
            for fronts in sorted({1, fronts_needed(found, assumptions, count)})
        ]
    progress(len(replicas), len(replicas), "")
    return {
        **record("plan", found.threads, {}),
        "calibrated_at": serve["commit"],
        "calibration": asdict(found),
        "assumptions": asdict(assumptions),
        "validation": validation(serve, found),
        "points": points,
        "breaks_first": limits(found, assumptions),
    }


def validation(serve: Mapping[str, Any], found: Calibration) -> list[dict[str, Any]]:
    """Simulated beside measured, for each number of replicas and clients."""
    rows = []
    for replicas, runs in sorted(_runs(serve).items()):
        for clients, measured in runs.items():
            if not measured["n"]:
                continue
            groups = [_stations(found, 1, 1)] * replicas
            simulated = _figures(closed_loop(int(clients), groups, TILES))
            rows.append(
                {
                    "replicas": replicas,
                    "clients": int(clients),
                    **{
                        name: {
                            "measured": measured[name],
                            "simulated": simulated[name],
                            "ratio": round(simulated[name] / measured[name], 3),
                        }
                        for name in ("throughput", "p50_ms", "p95_ms")
                    },
                }
            )
    return rows


def fronts_needed(found: Calibration, assumptions: Assumptions, replicas: int) -> int:
    """So many that neither their time nor their links hold the replicas up."""
    tiles_per_s = assumptions.load * replicas / found.replica_s
    by_time = tiles_per_s * found.front_s
    by_link = tiles_per_s * _link_s(found, assumptions.front_mbit_per_s)
    return max(1, math.ceil(max(by_time, by_link) / BUSIEST_FRONT))


def limits(found: Calibration, assumptions: Assumptions) -> dict[str, Any]:
    """What ends first behind one front: at how many replicas working all the time."""
    ends = {
        "front": found.replica_s / found.front_s,
        "front's link": found.replica_s / _link_s(found, assumptions.front_mbit_per_s),
    }
    first = min(ends, key=lambda name: ends[name])
    site_s = _link_s(found, assumptions.site_mbit_per_s)
    return {
        "first": first,
        "replicas": {name: significant(count) for name, count in ends.items()},
        "replicas_that_one_site_can_feed": significant(found.replica_s / site_s),
    }


def _point(
    found: Calibration, assumptions: Assumptions, replicas: int, fronts: int, scans: int
) -> dict[str, Any]:
    per_s = assumptions.load * replicas / (found.replica_s * assumptions.tiles_per_scan)
    busy = {
        "front": per_s * assumptions.tiles_per_scan * found.front_s / fronts,
        "front's link": per_s
        * assumptions.tiles_per_scan
        * _link_s(found, assumptions.front_mbit_per_s)
        / fronts,
    }
    row: dict[str, Any] = {
        "replicas": replicas,
        "fronts": fronts,
        "scans_per_s": significant(per_s),
    }
    broken = [name for name, share in busy.items() if share >= 1]
    if broken:
        # No queue in front of it comes to rest: there is no latency to tell.
        return {**row, "status": f"breaks: {' and '.join(broken)}"}
    scan = Scan(
        assumptions.tiles_per_scan,
        assumptions.under_way,
        found.sent * 8e-6 / assumptions.site_mbit_per_s,
        found.received * 8e-6 / assumptions.site_mbit_per_s,
    )
    # Many times as long as a scan lasts, for the queues to come to rest.
    lasts_s = assumptions.tiles_per_scan * (found.front_s + found.replica_s + scan.down_s)
    count = max(scans, math.ceil(LENGTHS * lasts_s * per_s))
    outcome = open_queue(per_s, _stations(found, replicas, fronts), scan, count)
    figures = _figures(outcome)
    cost = replicas * found.threads * assumptions.price_per_core_hour / 3600 / per_s * 1000
    return {
        **row,
        "status": "simulated",
        "scan_p50_s": significant(figures["p50_ms"] / 1000),
        "scan_p95_s": significant(figures["p95_ms"] / 1000),
        "tile_wait_mean_ms": significant(1000 * float(outcome.waits_s.mean())),
        "utilisation": {name: round(share, 3) for name, share in outcome.utilisation.items()},
        "cost_per_1000_scans": significant(cost),
        "site_mbit_per_scan": significant(
            (found.sent + found.received) * 8e-6 * assumptions.tiles_per_scan
        ),
    }


def _stations(found: Calibration, replicas: int, fronts: int) -> list[Station]:
    return [
        Station("front", fronts, constant(found.front_s)),
        Station("replicas", replicas, constant(found.replica_s)),
    ]


def _link_s(found: Calibration, mbit_per_s: float) -> float:
    """Of the direction that has more to carry, which is nearly always that of the answers."""
    return max(found.sent, found.received) * 8e-6 / mbit_per_s


def _figures(outcome: Outcome) -> dict[str, float]:
    p50, p95 = np.percentile(outcome.latencies_s, [50, 95])
    return {
        "throughput": significant(outcome.throughput),
        "p50_ms": significant(1000 * float(p50)),
        "p95_ms": significant(1000 * float(p95)),
    }


def _runs(serve: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """What our server did, by its replicas."""
    return {
        row["replicas"]: row["clients"]
        for row in serve["servers"]
        if row["server"] == SERVER and row["status"] == "run"
    }
