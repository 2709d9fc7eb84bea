"""``veilseg bench evidence``: every scheme on every data set; resumable, cached by cell."""

import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from veilseg.bench import record
from veilseg.cli.bench import EXIT_TERMINATED
from veilseg.cli.extras import needing, require_installed
from veilseg.cli.progress import progress
from veilseg.errors import VeilsegError, WrongUsage

if TYPE_CHECKING:
    from veilseg.bench.evidence.cells import Cell
    from veilseg.bench.evidence.kept import Kept

# Of a repetition that came out otherwise.
EXIT_DIFFERS = 1


@dataclass(frozen=True)
class EvidenceRequest:
    """Options of ``veilseg bench evidence``, as typed."""

    json_file: Path
    data: Path
    work: Path
    bundles: list[Path]
    only: list[str]
    steps: int | None
    effort: str | None
    again: bool
    show: bool
    repeated: str | None


def evidence(request: EvidenceRequest) -> None:
    """Measure, list or repeat cells.

    Raises
    ------
    WrongUsage
        For options that contradict each other or what is measured already, or a cell that is none.
    MissingDependency
        If the ``[train]`` or ``[server]`` extra is not installed: said before hours of training.
    InvalidInput
        If a data set cannot be used, or another process works in the same folder.
    VeilsegError
        If cells failed, each of which has said why.
    """
    record.require_writable(request.json_file)
    with needing("train", "veilseg bench evidence needs"):
        from veilseg.bench.alone import only_one
        from veilseg.bench.evidence.cells import Effort, chosen, table
        from veilseg.bench.evidence.every import lock_of, measure_all
        from veilseg.bench.evidence.kept import Kept
        from veilseg.bench.evidence.trained import Places, content_hash
    require_installed("server", "veilseg bench evidence needs", "fastapi", "openvino")
    if request.effort not in (None, *get_args(Effort)):
        raise WrongUsage(f"--audit {request.effort}: choose {', '.join(get_args(Effort))}")
    if request.repeated is not None and (request.only or request.show or request.again):
        raise WrongUsage("--repeat: of one cell, without --only, --list or --again")
    cells = table(request.steps, cast("Effort | None", request.effort))
    places = Places(request.data, request.work, (request.work, *request.bundles))
    kept = Kept(request.json_file, places)
    with ExitStack() as opened:
        if request.repeated is not None:
            opened.enter_context(_ended_by_sigterm())
            opened.enter_context(only_one(lock_of(places)))
            _repeat(request, kept)
            return
        wanted = chosen(cells, request.only)
        for cell in wanted:  # before hours of training, not after
            content_hash(places.data / cell.data.folder)
        if request.show:
            print(listed(wanted, kept))
            return
        if not request.again:
            kept.require_same_budget(wanted)
        opened.enter_context(_ended_by_sigterm())
        opened.enter_context(only_one(lock_of(places)))
        show = opened.enter_context(progress("evidence"))
        failed = measure_all(wanted, kept, request.again, show, _tell)
    print(listed(wanted, kept))
    if failed:
        raise VeilsegError(f"{failed} of {len(wanted)} cells failed: each has said why")


def _ended_by_sigterm() -> ExitStack:
    """SIGTERM ends the commands under way as well."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))
    stack = ExitStack()
    stack.callback(signal.signal, signal.SIGTERM, before)
    return stack


def _tell(line: str) -> None:
    print(f"veilseg: {line}", file=sys.stderr, flush=True)


def listed(cells: "Sequence[Cell]", kept: "Kept") -> str:
    """Each cell, how far it is, and what it reached."""
    stored = kept.cells()
    rows = [("cell", "steps", "state", "Dice", "image", "mask", "identity", "membership")]
    for cell in cells:
        state, found = kept.state(cell), stored.get(cell.name)
        reached = ("",) * 5 if found is None else tuple(_reached(found))
        rows.append((cell.name, f"{cell.steps:,}", state, *reached))  # type: ignore[arg-type]  # five of them
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _reached(found: dict[str, Any]) -> list[str]:
    best = [one["by_default"] for one in found["leakage"].values()]
    dice = found["accuracy"]["dice"]["value"]
    shown = [f"{one['attack']} {one['value']:.2f}" if one else "not run" for one in best]
    return ["–" if dice is None else f"{dice:.3f}", *shown]


def _repeat(request: EvidenceRequest, kept: "Kept") -> None:
    """Measure one cell afresh, with the budget that it was measured with."""
    from veilseg.bench.evidence.cells import table
    from veilseg.bench.evidence.every import repeat, stored_cell

    name = request.repeated or ""
    if name not in {cell.name for cell in table()}:
        raise WrongUsage(f"--repeat {name}: no such cell; --list shows all")
    budget = stored_cell(name, kept)["definition"]
    if request.steps not in (None, budget["steps"]):
        raise WrongUsage(f"--steps {request.steps}: {name} was measured with {budget['steps']}")
    cell = next(c for c in table(budget["steps"], budget["effort"]) if c.name == name)
    with progress("repeating") as show:
        rows = repeat(cell, kept, lambda told: show(0, 1, told))
    for row in rows:
        low, high = row["interval"]
        between = "no interval" if low is None else f"{low:.4f} to {high:.4f}"
        said = {True: "within", False: "outside", None: "not comparable"}[row["within"]]
        print(
            f"{row['figure']}: stored {row['stored']:.4f} ({between}), "
            f"afresh {row['fresh']:.4f}: {said}"
        )
    if not rows[0]["within"]:
        sys.exit(EXIT_DIFFERS)
