"""Queues simulated event by event (SimPy), and the closed forms that they are checked against.

A tile passes a front, which takes it off the network and checks it, and one of the replicas behind
it, which computes it; a line of each kind holds who waits. A scan has several tiles, of which its
site has a few under way at a time, over a link of its own.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import simpy

# Of scans or tiles, those that meet queues which are still filling up.
WARM_UP_SHARE: Final = 0.2

Draw = Callable[[np.random.Generator], float]
Steps = Generator[simpy.Event, Any, None]


def constant(seconds: float) -> Draw:
    """A time that is always the same, as of a network of fixed tile shape."""
    return lambda rng: seconds  # noqa: ARG005 - one interface


def exponential(mean_s: float) -> Draw:
    """A time without memory."""
    return lambda rng: float(rng.exponential(mean_s))


@dataclass(frozen=True)
class Station:
    """Servers behind one line.

    Attributes
    ----------
    name : str
    servers : int
    service : callable
        Draws the seconds that a tile takes.
    """

    name: str
    servers: int
    service: Draw


@dataclass(frozen=True)
class Scan:
    """What a scan asks for.

    Attributes
    ----------
    tiles : int
    under_way : int
        Tiles that a site has on their way at a time.
    up_s, down_s : float
        Seconds of a tile, and of its answer, on the site's link, which carries one at a time in
        each direction.
    """

    tiles: int = 1
    under_way: int = 1
    up_s: float = 0.0
    down_s: float = 0.0


@dataclass
class Outcome:
    """What a simulation saw after its warm-up.

    Attributes
    ----------
    latencies_s : ndarray
        Of scans, or of tiles in a closed loop.
    waits_s : ndarray
        Of tiles, in all lines together.
    throughput : float
        Scans, or tiles in a closed loop, per second.
    utilisation : dict of str to float
        Share of the time that a station's servers work.
    """

    latencies_s: np.ndarray[Any, np.dtype[np.float64]]
    waits_s: np.ndarray[Any, np.dtype[np.float64]]
    throughput: float
    utilisation: dict[str, float] = field(default_factory=dict)


class _Line:
    """A station in a simulation."""

    def __init__(self, world: simpy.Environment, station: Station) -> None:
        self.station = station
        self.busy_s = 0.0
        self._world = world
        self._servers = simpy.Resource(world, station.servers)

    def pass_through(self, rng: np.random.Generator) -> Generator[simpy.Event, Any, float]:
        """Wait, be served; gives the seconds waited."""
        came = self._world.now
        with self._servers.request() as turn:
            yield turn
            waited = float(self._world.now - came)
            seconds = self.station.service(rng)
            self.busy_s += seconds
            yield self._world.timeout(seconds)
        return waited


@dataclass
class _Count:
    """How far a simulation was at one time."""

    busy_s: list[float] = field(default_factory=list)
    done: int = 0
    now: float = 0.0

    def take(self, lines: Sequence[_Line], done: int, now: float) -> None:
        self.busy_s, self.done, self.now = [line.busy_s for line in lines], done, now


def open_queue(
    scans_per_s: float, stations: Sequence[Station], scan: Scan, scans: int, seed: int = 0
) -> Outcome:
    """Scans that come at random, whatever the queues are like.

    Parameters
    ----------
    scans_per_s : float
        Of a Poisson process: of many sites that know nothing of each other.
    stations : sequence of Station
        In the order in which a tile passes them.
    scan : Scan
    scans : int
        How many come.
    seed : int
    """
    rng = np.random.default_rng(seed)
    world = simpy.Environment()
    lines = [_Line(world, station) for station in stations]
    latencies: list[float] = []
    waits: list[float] = []
    # What there was when the warm-up ended, and when the last scan came.
    begun, ended = _Count(), _Count()

    def tile(up: simpy.Resource, down: simpy.Resource, slots: simpy.Resource, turn: Any) -> Steps:
        waited = 0.0
        if scan.up_s:
            with up.request() as line:
                yield line
                yield world.timeout(scan.up_s)
        for one in lines:
            waited += yield from one.pass_through(rng)
        if scan.down_s:
            with down.request() as line:
                yield line
                yield world.timeout(scan.down_s)
        waits.append(waited)
        slots.release(turn)

    def one_scan() -> Steps:
        came = world.now
        up, down, slots = (simpy.Resource(world, n) for n in (1, 1, scan.under_way))
        under_way = []
        for _ in range(scan.tiles):
            turn = slots.request()
            yield turn
            under_way.append(world.process(tile(up, down, slots, turn)))
        yield world.all_of(under_way)
        latencies.append(float(world.now - came))

    def arrivals() -> Steps:
        for number in range(scans):
            if number == int(WARM_UP_SHARE * scans):
                begun.take(lines, len(latencies), float(world.now))
            world.process(one_scan())
            yield world.timeout(rng.exponential(1 / scans_per_s))
        ended.take(lines, len(latencies), float(world.now))

    world.process(arrivals())
    world.run()
    return _seen(latencies, waits, lines, begun, ended)


def closed_loop(
    clients: int, groups: Sequence[Sequence[Station]], tiles: int, seed: int = 0
) -> Outcome:
    """Clients that each send their next tile when they have an answer, as ``bench serve`` does.

    Parameters
    ----------
    clients : int
    groups : sequence of sequence of Station
        Replicas that are reached by themselves, each with its stations; a client stays with one.
    tiles : int
        How many are answered.
    seed : int
    """
    rng = np.random.default_rng(seed)
    world = simpy.Environment()
    places = [[_Line(world, station) for station in group] for group in groups]
    latencies: list[float] = []
    waits: list[float] = []

    def client(number: int) -> Steps:
        while len(latencies) < tiles:
            came, waited = world.now, 0.0
            for line in places[number % len(places)]:
                waited += yield from line.pass_through(rng)
            latencies.append(float(world.now - came))
            waits.append(waited)

    for number in range(clients):
        world.process(client(number))
    world.run()
    lines = [line for place in places for line in place]
    begun, ended = _Count([0.0] * len(lines)), _Count()
    ended.take(lines, len(latencies), float(world.now))
    return _seen(latencies, waits, lines, begun, ended)


def _seen(
    latencies: list[float], waits: list[float], lines: list[_Line], begun: _Count, ended: _Count
) -> Outcome:
    busy: dict[str, list[float]] = {}
    seconds = ended.now - begun.now
    for line, before, after in zip(lines, begun.busy_s, ended.busy_s, strict=True):
        share = (after - before) / (line.station.servers * seconds)
        busy.setdefault(line.station.name, []).append(share)
    return Outcome(
        np.asarray(latencies[int(WARM_UP_SHARE * len(latencies)) :]),
        np.asarray(waits[int(WARM_UP_SHARE * len(waits)) :]),
        (ended.done - begun.done) / seconds,
        {name: float(np.mean(shares)) for name, shares in busy.items()},
    )


def wait_in_md1(per_s: float, service_s: float) -> float:
    """Mean wait for one server that always takes as long (M/D/1, Pollaczek–Khinchine).

    ``ρ·s / (2·(1 − ρ))`` with ``ρ = λ·s``.
    """
    load = per_s * service_s
    return load * service_s / (2 * (1 - load))


def wait_in_mmc(per_s: float, mean_service_s: float, servers: int) -> float:
    """Mean wait for several servers without memory (M/M/c, Erlang C)."""
    offered = per_s * mean_service_s
    # Erlang B by its recursion, which has no factorials to overflow.
    blocked = 1.0
    for count in range(1, servers + 1):
        blocked = offered * blocked / (count + offered * blocked)
    load = offered / servers
    waits = blocked / (1 - load * (1 - blocked))
    return waits * mean_service_s / (servers * (1 - load))
