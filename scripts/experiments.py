"""Run experiments of ``tuning/table.py``: ``--list`` shows them, ``NAME…`` runs them.

Each is trained on the training patients of a data set and measured on its validation patients,
never on test patients. Its row goes to results/experiments.json, from there to docs/experiments.md.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from evidence.places import Places, Result, default_places, write
from tuning.blocks import NOT_YET, changes, mean_dice, render, results
from tuning.table import Experiment, changed, experiments, settings


def store(row: Result, places: Places) -> None:
    """Put one row in its place, in the order of the table."""
    rows = {**results(places), row["name"]: row}
    order = [*experiments(), *rows]
    listed = sorted(rows.values(), key=lambda one: order.index(one["name"]))
    write(places.results / "experiments.json", {"experiments": listed})


def row_of(experiment: Experiment, outcome: Result) -> Result:
    """A row of results/experiments.json."""
    than = experiments()[experiment.against] if experiment.against else None
    differs = {} if than is None else changed(experiment, than)
    return {**settings(experiment), "changed": differs, "harness": "script", **outcome}


def main(arguments: Sequence[str]) -> None:
    """The command line."""
    known = experiments()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--list", action="store_true", help="what there is, and what is measured")
    parser.add_argument(
        "--render", action="store_true", help="bring docs/experiments.md up to date"
    )
    parser.add_argument("--again", action="store_true", help="replace rows that are measured")
    parser.add_argument("--steps", type=int, help="a trial: rows are printed and not kept")
    options = parser.parse_args(arguments)
    places = default_places()
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"no experiment {unknown[0]}: --list shows them")
    measured = results(places)
    trial = options.steps is not None
    if not trial and not options.again and (done := [n for n in options.names if n in measured]):
        parser.error(f"{done[0]} is measured: --again replaces its row")
    if options.list:
        for name, one in known.items():
            dice = mean_dice(measured[name]["validations"][0]) if name in measured else None
            state = NOT_YET if dice is None else f"{dice:.3f}"
            print(f"{name:18}{state:14}{changes(one, {}, {})}")
    for name in options.names:
        _run(replace(known[name], steps=options.steps) if trial else known[name], places, trial)
    if options.render:
        render(places)


def _run(experiment: Experiment, places: Places, trial: bool) -> None:
    from tuning.runs import run  # torch takes seconds to load; --list needs none

    work = Path(os.environ.get("VEILSEG_WORK", places.root / "build")) / "experiments"

    def report(done: int, loss: float) -> None:
        if done % 100 == 0:
            print(f"{experiment.name} {done}/{experiment.steps} loss {loss:.3f}", file=sys.stderr)

    row = row_of(experiment, run(experiment, places, work, report))
    print(json.dumps(row))
    if not trial:
        store(row, places)
        render(places)


if __name__ == "__main__":
    main(sys.argv[1:])
