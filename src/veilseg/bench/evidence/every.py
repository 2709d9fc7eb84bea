"""Every cell that is asked for, one after the other, and one of them afresh."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from veilseg.audit.findings import CHANNELS
from veilseg.bench.evidence.cells import Cell
from veilseg.bench.evidence.children import Note
from veilseg.bench.evidence.kept import Kept
from veilseg.bench.evidence.measure import figures, measure
from veilseg.bench.evidence.trained import Places, content_hash
from veilseg.errors import InvalidInput, VeilsegError

Document = dict[str, Any]
Report = Callable[[int, int, str], None]
Tell = Callable[[str], None]
Measure = Callable[[Cell, Places, Note], Document]


def measure_all(
    cells: Sequence[Cell],
    kept: Kept,
    again: bool,
    report: Report,
    tell: Tell,
    measure: Measure = measure,
) -> int:
    """Measure what is not measured yet; one cell that fails does not keep others from being done.

    Parameters
    ----------
    cells : sequence of Cell
    kept : Kept
    again : bool
        Whether to measure what is measured already.
    report : callable
        Called with (cells done, cells, what is being done).
    tell : callable
        Called with a line for each cell that failed.
    measure : callable

    Returns
    -------
    int
        How many cells failed.
    """
    failed = 0
    for done, cell in enumerate(cells):
        report(done, len(cells), cell.name)
        if kept.state(cell) == "measured" and not again:
            continue
        if again:
            shutil.rmtree(kept.folder(cell), ignore_errors=True)
        try:
            found = measure(cell, kept.places, _noted(report, done, len(cells), cell.name))
            kept.store(cell, found)
        except VeilsegError as error:
            failed += 1
            tell(f"{cell.name}: {error}")
    report(len(cells), len(cells), "")
    return failed


def _noted(report: Report, done: int, total: int, name: str) -> Note:
    return lambda told: report(done, total, f"{name}: {told}")


def repeat(cell: Cell, kept: Kept, note: Note, measure: Measure = figures) -> list[Document]:
    """Train, evaluate and attack a cell anew, out of reach of what was made before.

    A repetition that was broken off goes on; one that is done leaves nothing behind.

    Parameters
    ----------
    cell : Cell
        With the budget that it was measured with.
    kept : Kept
    note : callable
    measure : callable

    Returns
    -------
    list of dict
        For each figure its name, the stored value and interval, the fresh value, and whether that
        lies within the interval; Dice first.

    Raises
    ------
    InvalidInput
        If the cell is not measured, or was on other data.
    """
    stored = stored_cell(cell.name, kept)
    source = kept.places.data / cell.data.folder
    if stored["data_sha256"] != content_hash(source):
        raise InvalidInput(f"{source}: not the data that {cell.name} was measured on")
    work = kept.places.work / "repeated" / f"{cell.name}-{kept.wanted(cell)}"
    fresh = measure(cell, replace(kept.places, work=work, elsewhere=()), note)
    shutil.rmtree(work, ignore_errors=True)
    return compared(stored, fresh)


def stored_cell(name: str, kept: Kept) -> Document:
    """A cell of the file of results. Raises :class:`InvalidInput` if it has none such."""
    found = kept.cells().get(name)
    if found is None:
        raise InvalidInput(f"{kept.file}: {name} is not measured: nothing to repeat")
    return found


def compared(stored: Document, fresh: Document) -> list[Document]:
    """Each figure of a cell beside its repetition."""
    rows = [_row("dice", stored["accuracy"]["dice"], fresh["accuracy"]["dice"])]
    for channel in CHANNELS:
        pair = [one["leakage"][channel]["by_default"] for one in (stored, fresh)]
        if None not in pair:
            rows.append(_row(channel, *pair))
    return rows


def _row(name: str, stored: Document, fresh: Document) -> Document:
    low, high = stored["interval"]
    within = None if low is None else low <= fresh["value"] <= high
    return {
        "figure": name,
        "stored": stored["value"],
        "interval": [low, high],
        "fresh": fresh["value"],
        "within": within,
    }


def lock_of(places: Places) -> Path:
    """Held by whoever measures."""
    return places.work / "evidence" / "running.pid"
