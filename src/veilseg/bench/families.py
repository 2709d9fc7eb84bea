"""``veilseg bench families``: one convolution layer under secure computation and encryption.

A plane of the served network's costliest convolution, with numbers drawn by lot: time and bytes do
not depend on them. In the clear, in CrypTen and in TenSEAL by turns; what the whole network would
cost is estimated from that (:mod:`veilseg.bench.estimate`).
"""

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from veilseg.bench.contenders import NotRun
from veilseg.bench.estimate import ESTIMATES
from veilseg.bench.operations import Convolution, operations
from veilseg.bench.plane import plain_convolution
from veilseg.bench.record import record
from veilseg.bench.rounds import alternating, median, ratio, significant
from veilseg.bench.servers import PEERS, free_ports
from veilseg.bench.worker import Worker, worker
from veilseg.bundle import ServerBundle

PLAIN: Final = "in the clear"
# Of a ciphertext in tenseal_layer.py; as many planes as fill it, for half of one costs as much.
SLOTS: Final = 2048
SEED: Final = 0
# On a machine that is busy, to import everything and to find each other.
START_S: Final = 180.0

Doubles = NDArray[np.float64]
Progress = Callable[[int, int, str], None]
Turn = Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Layer:
    """A convolution of planes, and the numbers in it.

    Attributes
    ----------
    convolution : Convolution
        All planes of it, of which each has a grid of two axes.
    image : ndarray, shape (N, C, X, Y), float64
    weight : ndarray, shape (O, C, 3, 3), float64
    """

    convolution: Convolution
    image: Doubles
    weight: Doubles

    def expected(self) -> Doubles:
        """The answer in double precision, (N, O, X, Y)."""
        padded = np.pad(self.image, ((0, 0), (0, 0), (1, 1), (1, 1)))
        around = sliding_window_view(padded, (3, 3), axis=(2, 3))
        answer: Doubles = np.einsum("ncxyij,ocij->noxy", around, self.weight, optimize=True)
        return answer

    def describe(self) -> dict[str, Any]:
        """JSON-ready."""
        one = self.convolution
        shapes = {"image": list(self.image.shape), "weight": list(self.weight.shape)}
        return {**shapes, "multiply_adds": one.multiply_adds, "outputs": one.outputs}


@dataclass(frozen=True)
class Setup:
    """What every family is given.

    Attributes
    ----------
    layer : Layer
    threads : int
        Of each process.
    environments : Path
        Where ``make bench-families`` has put them.
    work : Path
        An empty folder.
    """

    layer: Layer
    threads: int
    environments: Path
    work: Path

    def options(self) -> list[object]:
        """Of every program; they are written for it."""
        file = self.work / "layer.npz"
        np.savez(file, image=self.layer.image, weight=self.layer.weight)
        return ["--layer", file, "--answer", self.answer, "--threads", self.threads]

    @property
    def answer(self) -> Path:
        """Where a program leaves its answer."""
        return self.work / "answer.npy"


@contextmanager
def crypten(setup: Setup) -> Iterator[Sequence[Worker]]:
    """Two parties, whose seconds are told by the first, and their dealer."""
    python, options = _python(setup, "crypten"), setup.options()
    port = free_ports(1)
    with ExitStack() as started:
        yield [
            started.enter_context(
                worker(
                    python, PEERS / "crypten_layer.py", [*options, "--rank", rank, "--port", port]
                )
            )
            for rank in (0, 1, 2)
        ][:2]


@contextmanager
def tenseal(setup: Setup) -> Iterator[Sequence[Worker]]:
    """Client and server in one process, which exchange bytes."""
    python = _python(setup, "tenseal")
    with worker(python, PEERS / "tenseal_layer.py", setup.options()) as one:
        yield [one]


def _python(setup: Setup, name: str) -> Path:
    python = setup.environments / name / "bin" / "python"
    if not python.is_file():
        raise NotRun(f"no environment {name}: make bench-families")
    return python


Start = Callable[[Setup], Any]
FAMILIES: Final[dict[str, Start]] = {"CrypTen": crypten, "TenSEAL": tenseal}


def measure(
    bundle: ServerBundle,
    threads: int,
    budget_s: float,
    environments: Path,
    progress: Progress,
    families: Mapping[str, Start] = FAMILIES,
) -> dict[str, Any]:
    """Compute the layer by turns, and estimate the network.

    Parameters
    ----------
    bundle : ServerBundle
        Whose network's costliest convolution is taken.
    threads : int
    budget_s : float
        No round begins after it.
    environments : Path
    progress : callable
    families : mapping of str to callable

    Returns
    -------
    dict
        JSON-ready. A family that cannot take part says ``not run: reason``.

    Raises
    ------
    NotRun
        If none of them can.
    InvalidInput
        If the network is none of convolutions.
    """
    found = record("families", threads, {"budget_s": budget_s})
    network = operations(bundle.model_file)
    layer = layer_of(network.costliest)
    expected = layer.expected()
    rows: dict[str, dict[str, Any]] = {}
    turns: dict[str, Turn] = {PLAIN: _plain(layer, threads)}
    with ExitStack() as opened:
        for number, (name, start) in enumerate(families.items()):
            progress(number, len(families) + 1, f"{name}: first answer")
            work = Path(opened.enter_context(tempfile.TemporaryDirectory()))
            setup = Setup(layer, threads, environments, work)
            try:
                workers = opened.enter_context(start(setup))
                told, *_ = [one.answer(START_S) for one in workers]
                turn = _turn(workers, setup.answer)
                turn()  # warms up
            except NotRun as error:
                rows[name] = {"status": f"not run: {error}"}
                continue
            rows[name], turns[name] = {"status": "run", **told}, turn
        if len(turns) == 1:
            raise NotRun("; ".join(f"{name} {row['status']}" for name, row in rows.items()))
        progress(len(families), len(families) + 1, "by turns")
        taken = alternating(turns, budget_s)
    plain = taken.pop(PLAIN)
    for name, rounds in taken.items():
        rows[name] |= _figures(rounds, plain, expected)
        rows[name]["estimate"] = ESTIMATES[name](rows[name]["phases"], layer.convolution, network)
    return {
        **found,
        "model": bundle.manifest.name,
        "bundle_id": bundle.manifest.bundle_id,
        "tile": list(bundle.manifest.proxy.shape),
        "layer": layer.describe(),
        "network": {
            "multiply_adds": network.multiply_adds,
            "convolutions": len(network.convolutions),
            "rectifiers": network.rectifiers,
            "rectified": network.rectified,
            "costliest": asdict(network.costliest),
        },
        "n_rounds": len(plain),
        "plain": _figures(plain, plain, expected),
        "families": [{"family": name, **row} for name, row in rows.items()],
    }


def layer_of(costliest: Convolution) -> Layer:
    """As many planes of a convolution as fill a ciphertext, with numbers drawn by lot."""
    grid = costliest.grid[:2]
    planes = max(1, SLOTS // math.prod(grid))
    rng = np.random.default_rng(SEED)
    into, out = costliest.in_channels, costliest.out_channels
    image = rng.random((planes, into, *grid))
    # As networks are begun with: answers are of the size of one.
    weight = rng.normal(0, math.sqrt(2 / (9 * into)), (out, into, 3, 3))
    flat = (*grid, planes)
    return Layer(Convolution(into, out, (3, 3), flat, flat), image, weight)


def _plain(layer: Layer, threads: int) -> Turn:
    compute = plain_convolution(layer.image, layer.weight, threads)

    def turn() -> dict[str, Any]:
        seconds, answer = compute()
        return {"phases": {"convolve": {"seconds": seconds, "bytes": 0}}, "answer": answer}

    turn()
    return turn


def _turn(workers: Sequence[Worker], answer: Path) -> Turn:
    def turn() -> dict[str, Any]:
        answer.unlink(missing_ok=True)
        for one in workers:
            one.ask()
        told = [one.answer() for one in workers]
        # The other party's figures are its own view of the same.
        return {**told[0], "answer": np.load(answer, allow_pickle=False)}

    return turn


def _figures(
    rounds: Sequence[dict[str, Any]], plain: Sequence[dict[str, Any]], expected: Doubles
) -> dict[str, Any]:
    phases: dict[str, Any] = {}
    for phase in rounds[0]["phases"]:
        each = [one["phases"][phase] for one in rounds]
        seconds = [one["seconds"] for one in each]
        counted = {name: median([one[name] for one in each]) for name in each[0]}
        spread = [significant(min(seconds)), significant(max(seconds))]
        phases[phase] = {**counted, "spread_s": spread}
    base, mine = (
        [one["phases"]["convolve"]["seconds"] for one in those] for those in (plain, rounds)
    )
    wrong = max(float(np.abs(one["answer"] - expected).max()) for one in rounds)
    return {"phases": phases, "largest_error": significant(wrong), "times_plain": ratio(base, mine)}
