"""Servers that are compared: ours and others', each with the same network and threads."""

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from veilseg.bench.contenders import NotRun
from veilseg.bundle import ServerBundle
from veilseg.demo.server import running, server_process

PEERS: Final = Path(__file__).with_name("peers")
# Every client of the load counts as the same site, which has no token.
PLACES: Final = 256
# Ray Serve takes a quarter of a minute on a machine that has nothing else to do.
RAY_START_S: Final = 300.0


@dataclass(frozen=True)
class Setup:
    """What every server is given.

    Attributes
    ----------
    folder : Path
        Of the bundle.
    bundle : ServerBundle
    precision : str
        ``bf16`` or ``f32``.
    threads : int
        Of each replica.
    environments : Path
        Where ``make bench-peers`` has put the peers.
    """

    folder: Path
    bundle: ServerBundle
    precision: str
    threads: int
    environments: Path


# URLs of the replicas, or the one before them all.
Start = Callable[[Setup, int], AbstractContextManager[list[str]]]


@contextmanager
def ours(setup: Setup, replicas: int) -> Iterator[list[str]]:
    """``veilseg serve``: a process for each replica, among which clients choose."""
    with ExitStack() as started:
        yield [
            started.enter_context(server_process([setup.folder], _settings(setup)))
            for _ in range(replicas)
        ]


@contextmanager
def ours_on_ray(setup: Setup, replicas: int) -> Iterator[list[str]]:
    """``veilseg serve --engine ray``: one server before all replicas.

    Raises
    ------
    NotRun
        If Ray is not installed.
    """
    if find_spec("ray") is None:
        raise NotRun("Ray is not installed: pip install 'veilseg[ray]'")
    chosen = {"engine": "ray", "min_replicas": replicas, "max_replicas": replicas}
    settings = {**_settings(setup), **chosen}
    with server_process([setup.folder], settings, timeout_s=RAY_START_S) as url:
        yield [url]


def _settings(setup: Setup) -> dict[str, object]:
    return {
        "precision": setup.precision,
        "batch_size": 1,
        "streams": 1,
        "threads": setup.threads,
        "queue_places": PLACES,
        "queue_places_per_site": PLACES,
        "log_level": "warning",
    }


def peer(name: str) -> Start:
    """A server of others, by its program in ``peers`` and its environment.

    Raises
    ------
    NotRun
        If its environment is not there.
    """

    @contextmanager
    def start(setup: Setup, replicas: int) -> Iterator[list[str]]:
        program, environment = PROGRAMS[name]
        python = setup.environments / environment / "bin" / "python"
        if not python.is_file():
            raise NotRun(f"no environment {environment}: make bench-peers")
        options = {
            "model": setup.bundle.model_file.resolve(),
            "name": setup.bundle.manifest.name,
            "precision": setup.precision,
            "threads": setup.threads,
            "replicas": replicas,
            "port": free_ports(),
        }
        command = [str(python.absolute()), str(PEERS / program)]
        for option, value in options.items():
            command += [f"--{option}", str(value)]
        with running(command, timeout_s=RAY_START_S) as url:
            yield [url]

    return start


PROGRAMS: Final = {"Triton": ("triton.py", "triton"), "Ray Serve": ("plain_ray.py", "ray")}
OURS, ON_RAY = "veilseg", "veilseg on Ray"
# Those of which several replicas are measured, and which are nobody's peers.
OWN: Final = frozenset({OURS, ON_RAY})
SERVERS: Final[dict[str, Start]] = {
    OURS: ours,
    ON_RAY: ours_on_ray,
    **{name: peer(name) for name in PROGRAMS},
}


def free_ports(count: int = 2) -> int:
    """The first of some ports in a row that are free on loopback now."""
    while True:
        with ExitStack() as opened:
            first = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
            port: int = first.getsockname()[1]
            try:
                for further in range(1, count):
                    opened.enter_context(socket.create_server(("127.0.0.1", port + further)))
            except (OSError, OverflowError):
                continue
            return port
