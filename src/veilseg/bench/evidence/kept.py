"""The file of results: what is measured, and what of it is still what is asked for."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from veilseg.bench import record
from veilseg.bench.evidence.cells import Cell, digest
from veilseg.bench.evidence.comparisons import comparisons
from veilseg.bench.evidence.trained import Places, content_hash, finished
from veilseg.errors import InvalidInput, WrongUsage

Document = dict[str, Any]
State = Literal["measured", "outdated", "trained", "under way", "waiting"]
# What may be asked for otherwise by an option.
BUDGET = ("steps", "effort")


@dataclass(frozen=True)
class Kept:
    """Cells by name, in a file that is whole whenever it is read.

    Attributes
    ----------
    file : Path
    places : Places
    """

    file: Path
    places: Places

    def cells(self) -> dict[str, Document]:
        """What was measured.

        Raises
        ------
        InvalidInput
            If the file holds anything else.
        """
        if not self.file.is_file():
            return {}
        try:
            found: Document = json.loads(self.file.read_text(encoding="utf-8"))
            cells: dict[str, Document] = dict(found["cells"])
            if found["bench"] != "evidence" or any("digest" not in one for one in cells.values()):
                raise ValueError
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidInput(f"{self.file}: no result of veilseg bench evidence") from error
        return cells

    def state(self, cell: Cell) -> State:
        """How far a cell is; of an outdated one, its definition or its data have changed."""
        stored = self.cells().get(cell.name)
        wanted = self.wanted(cell)
        if stored is not None:
            return "measured" if stored["digest"] == wanted else "outdated"
        if cell.run.keyed and not self.places.key_file.is_file():
            return "waiting"  # asking for more would make a key
        if next(finished(cell.run, self.places), None) is not None:
            return "trained"
        return "under way" if self.places.own(cell.run).exists() else "waiting"

    def wanted(self, cell: Cell) -> str:
        """The digest that its result must carry."""
        return digest(cell.defined(content_hash(self.places.data / cell.data.folder)))

    def folder(self, cell: Cell) -> Path:
        """Where what is found out about it is kept until all of it is."""
        return self.places.cell_folder(cell.name, self.wanted(cell))

    def require_same_budget(self, cells: Sequence[Cell]) -> None:
        """Refuse to replace figures of another budget.

        Raises
        ------
        WrongUsage
            If the file has one of the cells with other steps or attackers.
        """
        stored = self.cells()
        for cell in cells:
            if cell.name not in stored:
                continue
            own = {"steps": cell.steps, "effort": cell.effort}
            for name in BUDGET:
                there = stored[cell.name]["definition"][name]
                if there != own[name]:
                    raise WrongUsage(
                        f"{self.file}: {cell.name} was measured with {name} {there}, not "
                        f"{own[name]}: give another --json, or --again to replace it"
                    )

    def store(self, cell: Cell, found: Document) -> None:
        """Put a cell in its place, and bring what all cells say together up to date."""
        cells = {**self.cells(), cell.name: found}
        document = {
            "bench": "evidence",
            "commit": record.source_state(),
            "comparisons": comparisons(list(cells.values())),
            "cells": cells,
        }
        record.write(self.file, document)
