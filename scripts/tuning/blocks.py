"""The tables of docs/experiments.md, rendered from ``results/experiments.json``."""

from collections.abc import Callable
from typing import Any

from evidence.blocks import BLOCK
from evidence.places import Places, Result, read

from tuning.table import TABLE, Experiment, changed, experiments
from veilseg.files import write_text_whole

NOT_YET = "not run yet"


def results(places: Places) -> dict[str, Result]:
    """The rows of results/experiments.json by name."""
    found = read(places.results / "experiments.json") or {"experiments": []}
    return {row["name"]: row for row in found["experiments"]}


def table(group: str, rows: dict[str, Result]) -> str:
    """One group as a table in Markdown."""
    head = ("experiment", "against", "changed", "steps × batch", "Dice", "difference", "algebraic")
    lines = [_line(*head), _line(*["---"] * len(head))]
    for name in TABLE[group]:
        one = experiments()[name]
        row, other = rows.get(name, {}), rows.get(one.against, {})
        dice = difference = algebraic = ""
        if row:
            found = row["validations"][0]["dice"]
            dice = f"{mean_dice(row['validations'][0]):.3f}"
            difference = _difference(row, other) if other else "–"
            algebraic = f"{found['algebraic']['mean']:.3f}" if "algebraic" in found else "–"
        against = f"`{one.against}`" if one.against else "–"
        size = f"{one.steps} × {one.batch}"
        what = (f"`{name}`", against, changes(one, row, other), size)
        lines.append(_line(*what, dice or NOT_YET, difference, algebraic))
    return "\n".join(lines)


def average(rows: dict[str, Result]) -> str:
    """What averaging the weights brought, over all runs."""
    gains = [
        round(mean_dice(one, "dice_of_average") - mean_dice(one), 4)
        for one in (row["validations"][0] for row in rows.values())
    ]
    if not gains:
        return NOT_YET
    mean = sum(gains) / len(gains)
    return (
        f"Dice of the averaged weights minus that of the last ones, over {len(gains)} runs: "
        f"{min(gains):+.4f} to {max(gains):+.4f}, mean {mean:+.4f}."
    )


def networks(rows: dict[str, Result]) -> str:
    """Weights and multiply-adds of what was run."""
    head = ("segmenter", "unmixer", "multiply-adds per voxel of the segmenter", "weights of both")
    lines = [_line(*head), _line(*["---"] * len(head))]
    seen = {
        (row["segmenter"], row.get("unmixer", "–"), row["parameters"]): row[
            "segmenter_multiply_adds_per_voxel"
        ]
        for row in rows.values()
    }
    for (segmenter, unmixer, parameters), count in seen.items():
        name = unmixer if unmixer in ("none", "–") else f"`{unmixer}`"
        lines.append(_line(f"`{segmenter}`", name, f"{count:,}", f"{parameters:,}"))
    return "\n".join(lines)


def validation(rows: dict[str, Result]) -> str:
    """How much there is to validate by, and where the rows come from."""
    lines = []
    for scheme, what in (("mixup", "mixtures"), ("plain", "raw images")):
        of = [row for row in rows.values() if row["scheme"] == scheme]
        kinds = {
            (row["data"], *(row["validations"][0][key] for key in ("n", "n_cases", "n_patients")))
            for row in of
        }
        lines += [
            f"- `{scheme}`, {data}: {n} {what} of {cases} images of {patients} patients"
            for data, n, cases, patients in sorted(kinds)
        ]
    for commit in sorted({row["commit"] for row in rows.values()}):
        names = ", ".join(f"`{name}`" for name, row in rows.items() if row["commit"] == commit)
        lines.append(f"- examples made by {commit[:7]}{commit[40:]}: {names}")
    by_prototype = sum(row["harness"] == "prototype" for row in rows.values())
    lines.append(f"- {by_prototype} of {len(rows)} rows by the prototype of the script")
    return "\n".join(lines)


BLOCKS: dict[str, Callable[[dict[str, Result]], str]] = {
    "experiments-validation": validation,
    "experiments-networks": networks,
    "experiments-average": average,
    **{
        f"experiments-{group}": lambda rows, group=group: table(group, rows)  # type: ignore[misc]
        for group in TABLE
    },
}


def rendered(text: str, places: Places) -> str:
    """A document with its blocks as results/experiments.json has them."""
    rows = results(places)
    return BLOCK.sub(lambda match: f"{match[1]}{BLOCKS[match[2]](rows)}\n{match[3]}", text)


def render(places: Places) -> None:
    """Bring docs/experiments.md up to date."""
    page = places.root / "docs" / "experiments.md"
    write_text_whole(page, rendered(page.read_text(encoding="utf-8"), places))


def mean_dice(validated: Result, which: str = "dice") -> float:
    """Of the unmixing network, of the algebra where there is none, or of the raw images."""
    dice = validated[which]
    (kind,) = [kind for kind in ("learned", "plain", "algebraic") if kind in dice][:1]
    return float(dice[kind]["mean"])


def _difference(row: Result, other: Result) -> str:
    """On the same mixtures, or none at all."""
    ours = row["validations"][0]
    for place, theirs in enumerate(other["validations"]):
        if theirs["mixtures_sha256"] == ours["mixtures_sha256"]:
            change = f"{mean_dice(ours) - mean_dice(theirs):+.3f}"
            # The other's own figure is of other mixtures: say what it is on these.
            return f"{change} (to {mean_dice(theirs):.3f} on these mixtures)" if place else change
    return "other mixtures"


def changes(experiment: Experiment, row: Result, other: Result) -> str:
    """In words, with the sources the examples were made by."""
    if not experiment.against:
        return "–"
    parts = [
        f"{name.replace('_', ' ')} {_plain(before)} → {_plain(after)}"
        for name, (before, after) in changed(experiment, experiments()[experiment.against]).items()
    ]
    commits = [one["commit"][:7] for one in (other, row) if one]
    if len(set(commits)) == 2:
        parts.append(f"law of references {commits[0]} → {commits[1]}")
    return ", ".join(parts)


def _plain(value: Any) -> str:
    return "–".join(f"{one:g}" for one in value) if isinstance(value, list) else str(value)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
