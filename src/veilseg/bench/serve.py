"""``veilseg bench serve``: servers of the same network under the same load, by turns.

In each round every server is started, warmed up, loaded and stopped: what runs idle beside it would
cost it time. The bare loop, without any server, is what they could reach at most.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from veilseg.bench.contenders import openvino_loop, selftest_tile
from veilseg.bench.load import Load, closed_loop, medians, one_answer
from veilseg.bench.record import record
from veilseg.bench.rounds import CALM_S, alternating, ratio
from veilseg.bench.runtime import agreement
from veilseg.bench.servers import OURS, OWN, SERVERS, Setup, Start
from veilseg.bundle import ServerBundle
from veilseg.errors import VeilsegError
from veilseg.wire import (
    InferRequest,
    Message,
    RequestedOutput,
    Tensor,
    decode_answer,
    encode_request,
)
from veilseg.wire.paths import model_infer
from veilseg.wire.tensors import FloatArray

BARE: Final = "bare OpenVINO loop"
CLIENTS: Final = (1, 8, 32)
WARM_UP_REQUESTS: Final = 4
# An interval of a median of fewer is all of their range, and not what it is called.
ROUNDS: Final = 7

Progress = Callable[[int, int, str], None]
Round = dict[int, Load]


def measure(
    setup: Setup,
    clients: Sequence[int],
    replicas: Sequence[int],
    budget_s: float,
    progress: Progress,
    servers: Mapping[str, Start] = SERVERS,
) -> dict[str, Any]:
    """Load every server with every number of clients.

    Parameters
    ----------
    setup : Setup
    clients : sequence of int
        At a time, each with one request under way.
    replicas : sequence of int
        1 for all servers; more for ours, for what a second one brings.
    budget_s : float
        For all loads together, the bare loop's included; starting comes on top.
    progress : callable
    servers : mapping of str to callable

    Returns
    -------
    dict
        JSON-ready. A server that does not start says ``not run: reason``.
    """
    found = record("serve", setup.threads, {"budget_s": budget_s, "precision": setup.precision})
    tile = selftest_tile(setup.bundle)
    bare = openvino_loop(setup.precision)(setup.bundle, setup.threads)
    expected = bare(tile).copy()
    arms = {
        (name, count): start
        for name, start in servers.items()
        for count in (replicas if name in OWN else (1,))
    }
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    turn_s = budget_s / (ROUNDS * (len(arms) + 1) * len(clients))
    for number, (arm, start) in enumerate(arms.items()):
        progress(number, len(arms), f"{arm[0]}: answers")
        rows[arm] = _tried(start, setup, arm[1], tile, expected)
    running = {arm: start for arm, start in arms.items() if rows[arm]["status"] == "run"}
    turns: dict[str, Callable[[], Round]] = {BARE: lambda: {0: _bare(bare, tile, turn_s)}}
    for arm, start in running.items():
        turns[_title(arm)] = _turn(start, setup, arm[1], tile, clients, turn_s)
    taken = alternating(turns, 0.0, fewest=ROUNDS, pause_s=10 * CALM_S)
    loop = [one[0] for one in taken[BARE]]
    for arm in running:
        rows[arm]["clients"] = _compared(taken[_title(arm)], loop, clients)
    return {
        **found,
        "model": setup.bundle.manifest.name,
        "bundle_id": setup.bundle.manifest.bundle_id,
        "tile": list(tile.shape),
        "n_rounds": len(loop),
        "bytes": {
            "sent": len(request_of(setup.bundle, tile)[1].body),
            "received": expected.nbytes,
        },
        "bare": medians(loop),
        "servers": [
            {"server": name, "replicas": count, **row} for (name, count), row in rows.items()
        ],
        "scaling": _scaling(taken, max(clients), running),
        "against_best_peer": _against_peers(taken, clients, running),
    }


def _title(arm: tuple[str, int]) -> str:
    return f"{arm[0]} ×{arm[1]}"


def request_of(bundle: ServerBundle, tile: FloatArray) -> tuple[str, Message]:
    """Path and message that ask a bundle's network about a tile."""
    proxy, answer = bundle.manifest.proxy, bundle.manifest.answer
    request = InferRequest(
        (Tensor(proxy.name, tile),), outputs=(RequestedOutput(answer.name, binary=True),)
    )
    return model_infer(bundle.manifest.name), encode_request(request)


def _tried(
    start: Start, setup: Setup, replicas: int, tile: FloatArray, expected: FloatArray
) -> dict[str, Any]:
    """Whether a server runs, how long it takes to start, and how far its answers are from ours."""
    begun = time.perf_counter()
    try:
        with start(setup, replicas) as urls:
            seconds = time.perf_counter() - begun
            body, length = one_answer(urls[0], *request_of(setup.bundle, tile))
    except (VeilsegError, OSError) as error:
        return {"status": f"not run: {error}"}
    answer = decode_answer(body, length).outputs[0].array
    return {
        "status": "run",
        "start_s": round(seconds, 2),
        "agreement": agreement(expected, np.asarray(answer)),
    }


def _turn(
    start: Start,
    setup: Setup,
    replicas: int,
    tile: FloatArray,
    clients: Sequence[int],
    turn_s: float,
) -> Callable[[], Round]:
    path, message = request_of(setup.bundle, tile)

    def turn() -> Round:
        with start(setup, replicas) as urls:
            for url in urls:
                for _ in range(WARM_UP_REQUESTS):
                    one_answer(url, path, message)
            return {count: closed_loop(urls, path, message, count, turn_s) for count in clients}

    return turn


def _bare(compute: Callable[[FloatArray], FloatArray], tile: FloatArray, turn_s: float) -> Load:
    load = Load()
    begun = now = time.perf_counter()
    while len(load.latencies_s) < WARM_UP_REQUESTS or now - begun < turn_s:
        compute(tile)
        before, now = now, time.perf_counter()
        load.latencies_s.append(now - before)
    load.seconds = now - begun
    return load


def _compared(
    rounds: Sequence[Round], loop: Sequence[Load], clients: Sequence[int]
) -> dict[str, Any]:
    bare = [load.throughput for load in loop]
    return {
        str(count): {
            **medians([one[count] for one in rounds]),
            "of_bare": ratio(bare, [one[count].throughput for one in rounds]),
        }
        for count in clients
    }


def _scaling(
    taken: Mapping[str, Sequence[Any]], clients: int, running: Mapping[tuple[str, int], Start]
) -> list[dict[str, Any]]:
    """Throughput of several replicas ÷ that of one, with the most clients."""
    found = []
    for name, count in running:
        if count > 1 and (name, 1) in running:
            one, several = (
                [load[clients].throughput for load in taken[_title((name, replicas))]]
                for replicas in (1, count)
            )
            found.append({"server": name, "replicas": count, **ratio(one, several)})
    return found


def _against_peers(
    taken: Mapping[str, Sequence[Any]],
    clients: Sequence[int],
    running: Mapping[tuple[str, int], Start],
) -> dict[str, Any]:
    """Our throughput ÷ that of the peer that is best in the median, round by round, and our
    ninety-fifth percentile of the time of an answer ÷ its."""
    peers = [_title(arm) for arm in running if arm[0] not in OWN]
    if (OURS, 1) not in running or not peers:
        return {"status": "not run: no peer, or not ours"}
    found: dict[str, Any] = {"status": "run"}
    for count in clients:
        flows = {
            name: [one[count].throughput for one in taken[name]]
            for name in (*peers, _title((OURS, 1)))
        }
        best = max(peers, key=lambda name: statistics.median(flows[name]))
        ours = _title((OURS, 1))
        theirs_ms, own_ms = (
            [float(one[count].summary().get("p95_ms", 0)) for one in taken[name]]
            for name in (best, ours)
        )
        found[str(count)] = {
            "peer": best,
            **ratio(flows[best], flows[ours]),
            "p95": ratio(theirs_ms, own_ms) if all(theirs_ms) and all(own_ms) else None,
        }
    return found
