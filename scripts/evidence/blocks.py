"""Text blocks of documents, rendered from ``results/``; what is not measured yet says so."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from evidence import encodings, families, results_page, speed, speed_goals, together
from evidence.cells import NOT_YET, between, change, dice, head, people, plot, row, with_range
from evidence.first_use import demo, site
from evidence.goals import Goal, goals
from evidence.jobs import BRAIN, HIPPOCAMPUS, PICTURES, PLAIN_AND_MIXED
from evidence.leaks import (
    averaging,
    collusion,
    defences,
    frontier_settings,
    inversion,
    leaks,
    masks,
    verdicts,
)
from evidence.places import Places, Result
from evidence.summaries import POOLED
from evidence.times import encoding_compute, overhead, overhead_phases, training_time
from evidence.verdicts import goals as results_goals

BLOCK = re.compile(r"(<!-- figures(?::([a-z-]+))? -->\n)(?:.*?\n)??(<!-- /figures -->)", re.DOTALL)
PAGES = (
    *("accuracy.md", "centers.md", "encoding.md", "families.md", "performance.md"),
    *("privacy.md", "results.md", "training.md"),
)
CARD = "card"  # the block of a model card; it has no name, as training writes it
TITLES = {
    HIPPOCAMPUS.name: HIPPOCAMPUS.title,
    POOLED: f"{BRAIN.title}, five folds",
    BRAIN.name: f"{BRAIN.title}, shipped bundles",
    **{data.name: data.title for data in PICTURES},
}


def rendered(text: str, places: Places, bundle: str | None = None) -> str:
    """A document with its blocks as ``results/`` has them; ``bundle`` is named by a model card."""

    def block(match: re.Match[str]) -> str:
        body = card(places, bundle or "") if match[2] is None else BLOCKS[match[2]](places)
        return f"{match[1]}{body}\n{match[3]}"

    return BLOCK.sub(block, text)


def documents(places: Places) -> dict[Path, str | None]:
    """Every document with figures, and the bundle whose card it is."""
    pages = [places.root / "README.md", *(places.root / "docs" / name for name in PAGES)]
    cards = sorted(places.models.glob("[!.]*/README.md"))
    return {path: None for path in pages if path.is_file()} | {
        path: path.parent.name for path in cards
    }


def card(places: Places, bundle: str) -> str:
    """Accuracy of one bundle by class."""
    result = places.load(bundle)
    if result is None:
        return NOT_YET
    unit = "px" if result.get("unit") == "pixel" else "mm"
    tolerance = result["surface_tolerance_mm"]
    lines = [
        f"Held-out test split, {people(result)}{_mixed_with(result)}. Mean "
        f"foreground Dice **{dice(result['mean_dice'])}** "
        f"(95 % interval over patients {between(result['interval'])}).",
        "",
        *head("class", "Dice", f"HD95, {unit}", f"surface Dice at {tolerance:g} {unit}"),
    ]
    for label, values in result["per_class"].items():
        cells = (dice(values["dice"]), dice(values["hd95_mm"], 2), dice(values["nsd"]))
        lines.append(row(label, *cells))
    if "algebraic" in result["variants"] and "learned" in result["variants"]:
        algebraic = dice(result["variants"]["algebraic"])
        lines += ["", f"The same answers, unmixed by algebra alone: {algebraic}."]
    if "calibration" in result:
        lines += ["", f"Expected calibration error {dice(result['calibration']['ece'])}."]
    return "\n".join(lines)


def _mixed_with(result: Result) -> str:
    """Nothing, where nothing is mixed."""
    return "" if result.get("scheme") == "plain" else f", {result['references']} references"


def accuracy(places: Places) -> str:
    """Plain against private for each data set."""
    found = (places.load("margins") or {"comparisons": {}})["comparisons"]
    lines = head("unseen patients", "plain", "private (a = ½)", "algebraic", "private − plain")
    for name, title in TITLES.items():
        if name not in found:
            lines.append(row(title, "not measured yet", "", "", ""))
            continue
        entry = found[name]
        algebraic = dice(entry["algebraic"]["dice"]) if "algebraic" in entry else "–"
        lines.append(
            row(
                f"{title}, {people(entry['margin'])}",
                *(dice(entry["paired"][scheme]) for scheme in ("plain", "mixup")),
                algebraic,
                change(entry["margin"]),
            )
        )
    return "\n".join(lines)


def gain(places: Places) -> str:
    """Learned − algebraic, each trained for itself."""
    found = places.load("margins") or {"comparisons": {}, "pooled_gain": None}
    rows = [
        row(f"{TITLES[name]}, {people(entry['gain'])}", change(entry["gain"]))
        for name, entry in found["comparisons"].items()
        if "gain" in entry
    ]
    pooled = found["pooled_gain"]
    if pooled is not None:
        rows.append(row(f"all of them pooled, {people(pooled)}", change(pooled)))
    return "\n".join([*head("unseen patients", "learned − algebraic"), *rows]) if rows else NOT_YET


def longer(places: Places) -> str:
    """What more steps on raw images bring, where private schemes go on from plain."""
    found = places.load("margins") or {"comparisons": {}}
    lines = head("unseen patients", "plain", "plain, longer", "longer − plain", "private − longer")
    rows = [
        row(
            f"{TITLES[name]}, {people(entry['more_steps'])}",
            *(dice(entry["paired_longer"][scheme]) for scheme in ("plain", "longer")),
            *(change(entry[name]) for name in ("more_steps", "margin_to_longer")),
        )
        for name, entry in found["comparisons"].items()
        if "longer" in entry
    ]
    return "\n".join([*lines, *rows]) if rows else NOT_YET


def curve(places: Places) -> str:
    """Dice over the mixing coefficient."""
    found = places.load("curve")
    if found is None:
        return NOT_YET
    lines = head("a", "learned", "algebraic", "learned − algebraic")
    for point in found["points"]:
        kinds = (with_range(point[kind]) for kind in ("learned", "algebraic"))
        lines.append(row(f"{point['coefficient']:g}", *kinds, change(point["gain"])))
    return "\n".join([*lines, "", f"Plain: {with_range(found['plain'])}."])


def mixtures(places: Places) -> str:
    """Dice over the number of mixtures averaged."""
    found = places.load("mixtures")
    if found is None:
        return NOT_YET
    lines = head("mixtures averaged", "Dice", "gain over one")
    for point in found["points"]:
        gained = "" if point["mixtures"] == 1 else change(point["gain"])
        lines.append(row(str(point["mixtures"]), with_range(point["learned"]), gained))
    return "\n".join(lines)


def calibration(places: Places) -> str:
    """How far confidence and accuracy lie apart, of every data set."""
    pictures = tuple(f"{data.name}-{scheme}" for data in PICTURES for scheme in ("plain", "mixup"))
    results = {name: places.load(name) for name in (*PLAIN_AND_MIXED, *pictures)}
    there = {name: result for name, result in results.items() if result and "calibration" in result}
    if not there:
        return NOT_YET
    lines = head("bundle", "expected calibration error", "a wrong voxel is less sure (AUROC)")
    for name, result in there.items():
        found = result["calibration"]
        lines.append(row(name, dice(found["ece"]), dice(found["error_auroc"])))
    return "\n".join(lines)


def trainings(places: Places) -> str:
    """How long each data set was trained, and the validation Dice of what is shipped."""
    lines = head("data set", "steps", "of them plain's", "validation Dice of plain", "of private")
    for data in (HIPPOCAMPUS, BRAIN, *PICTURES):
        results = [places.load(f"{data.name}-{scheme}") for scheme in ("plain", "mixup")]
        scores = (dice((result or {}).get("validation_dice")) for result in results)
        raw, steps = data.raw_steps, data.steps
        if raw and all(results):  # what was measured may be of an earlier table
            raw, steps = results[0]["steps"], sum(result["steps"] for result in results)
        lines.append(row(f"`{data.folder}`", f"{steps:,}", f"{raw:,}" if raw else "–", *scores))
    return "\n".join(lines)


def lengths(places: Places) -> str:
    """What more steps brought on validation patients, from nothing or from the plain network."""
    found = places.load("lengths")
    if found is None:
        return NOT_YET
    lines = head("data set", "steps", "plain", "private", "private − plain")
    scores = {
        (a["dataset"], a.get("init_steps", 0), a["steps"], a["scheme"]): a["validation_dice"]
        for a in found["runs"]
    }
    for dataset, before, steps in sorted({key[:3] for key in scores}):
        mixup = scores[dataset, before, steps, "mixup"]
        # Private goes on from it, so what it is compared with is its start.
        plain = scores[dataset, 0, before or steps, "plain"]
        told = f"{before:,} of plain, then {steps:,}" if before else f"{steps:,}"
        lines.append(row(f"`{dataset}`", told, dice(plain), dice(mixup), f"{mixup - plain:+.3f}"))
    return "\n".join(lines)


def reached(of: Callable[[Places], Iterable[Goal]]) -> Callable[[Places], str]:
    """A block of goals, and whether each was reached."""

    def show(places: Places) -> str:
        lines = head("what", "goal", "measured", "reached")
        for what, goal, measured, enough in of(places):
            answer = "" if measured is None else "yes" if enough else "**no**"
            lines.append(row(what, goal, measured or "not measured yet", answer))
        return "\n".join(lines)

    return show


BLOCKS: dict[str, Callable[[Places], str]] = {
    "accuracy": accuracy,
    "gain": gain,
    "longer": longer,
    "curve": curve,
    "mixtures": mixtures,
    "calibration": calibration,
    "overhead": overhead,
    "overhead-phases": overhead_phases,
    "training-time": training_time,
    "goals": reached(goals),
    "encoding-goals": reached(encodings.goals),
    "trainings": trainings,
    "lengths": lengths,
    "leaks": leaks,
    "verdicts": verdicts,
    "defences": defences,
    "masks": masks,
    "averaging": averaging,
    "frontier": frontier_settings,
    "frontier-plot": plot("frontier", "Dice kept over what is learned, one panel per channel"),
    "encodings": encodings.table,
    "encoding-controls": encodings.controls,
    "encoding-finding": encodings.finding,
    "encoding-ablations": encodings.ablations,
    "encoding-compute": encoding_compute,
    "inversion": inversion,
    "centers-goals": reached(together.goals),
    "centers-sites": together.sites,
    "centers": together.dice_by_site,
    "centers-gains": together.gains,
    "centers-cost": together.cost,
    "centers-collusion": collusion,
    "demo": demo,
    "site": site,
    "margins-plot": plot("margins", "Private minus plain for each data set, with intervals"),
    "curve-plot": plot("curve", "Dice over the mixing coefficient, learned and algebraic"),
    "mixtures-plot": plot("mixtures", "Dice over the number of mixtures averaged"),
    "centers-plot": plot("centers", "Dice on each site's patients, alone, together and pooled"),
    "calibration-plot": plot("calibration", "Accuracy over confidence of the shipped bundles"),
    "servers-plot": plot("servers", "Throughput and p95 over the number of clients", "bench"),
    "site-time-plot": plot("site-time", "A site's time by phase, a bar for each bundle", "bench"),
    "plan-plot": plot("plan", "p95 of a scan over the number of replicas", "bench"),
    "speed-goals": reached(speed_goals.goals),
    **speed.BLOCKS,
    **families.BLOCKS,
    **results_page.BLOCKS,
    "results-goals": reached(results_goals),
}
