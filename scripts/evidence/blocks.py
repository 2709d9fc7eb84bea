"""Text blocks of documents, rendered from ``results/``; what is not measured yet says so."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from evidence.goals import goals
from evidence.jobs import BRAIN, HIPPOCAMPUS, PICTURES, SHIPPED
from evidence.places import Places, Result
from evidence.summaries import POOLED

BLOCK = re.compile(r"(<!-- figures(?::([a-z-]+))? -->\n)(?:.*?\n)??(<!-- /figures -->)", re.DOTALL)
CARD = "card"  # the block of a model card; it has no name, as training writes it
NOT_YET = "Not measured yet: `make claims`."
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
    names = ("README.md", "docs/accuracy.md", "docs/training.md")
    pages = [places.root / name for name in names]
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
        f"Held-out test split, {_people(result)}, {result['references']} references. Mean "
        f"foreground Dice **{_dice(result['mean_dice'])}** "
        f"(95 % interval over patients {_range(result['interval'])}).",
        "",
        *_head("class", "Dice", f"HD95, {unit}", f"surface Dice at {tolerance:g} {unit}"),
    ]
    for label, values in result["per_class"].items():
        cells = (_dice(values["dice"]), _dice(values["hd95_mm"], 2), _dice(values["nsd"]))
        lines.append(_row(label, *cells))
    if "algebraic" in result["variants"] and "learned" in result["variants"]:
        algebraic = _dice(result["variants"]["algebraic"])
        lines += ["", f"The same answers, unmixed by algebra alone: {algebraic}."]
    if "calibration" in result:
        lines += ["", f"Expected calibration error {_dice(result['calibration']['ece'])}."]
    return "\n".join(lines)


def accuracy(places: Places) -> str:
    """Plain against private for each data set."""
    found = (places.load("margins") or {"comparisons": {}})["comparisons"]
    lines = _head("unseen patients", "plain", "private (a = ½)", "algebraic", "private − plain")
    for name, title in TITLES.items():
        if name not in found:
            lines.append(_row(title, "not measured yet", "", "", ""))
            continue
        entry = found[name]
        algebraic = _dice(entry["algebraic"]["dice"]) if "algebraic" in entry else "–"
        lines.append(
            _row(
                f"{title}, {_people(entry['margin'])}",
                *(_dice(entry[scheme]["dice"]) for scheme in ("plain", "mixup")),
                algebraic,
                _change(entry["margin"]),
            )
        )
    return "\n".join(lines)


def gain(places: Places) -> str:
    """Learned − algebraic, each trained for itself."""
    found = places.load("margins") or {"comparisons": {}, "pooled_gain": None}
    rows = [
        _row(f"{TITLES[name]}, {_people(entry['gain'])}", _change(entry["gain"]))
        for name, entry in found["comparisons"].items()
        if "gain" in entry
    ]
    pooled = found["pooled_gain"]
    if pooled is not None:
        rows.append(_row(f"all of them pooled, {_people(pooled)}", _change(pooled)))
    return "\n".join([*_head("unseen patients", "learned − algebraic"), *rows]) if rows else NOT_YET


def curve(places: Places) -> str:
    """Dice over the mixing coefficient."""
    found = places.load("curve")
    if found is None:
        return NOT_YET
    lines = _head("a", "learned", "algebraic", "learned − algebraic")
    for point in found["points"]:
        kinds = (_with_range(point[kind]) for kind in ("learned", "algebraic"))
        lines.append(_row(f"{point['coefficient']:g}", *kinds, _change(point["gain"])))
    return "\n".join([*lines, "", f"Plain: {_with_range(found['plain'])}."])


def mixtures(places: Places) -> str:
    """Dice over the number of mixtures averaged."""
    found = places.load("mixtures")
    if found is None:
        return NOT_YET
    lines = _head("mixtures averaged", "Dice", "gain over one")
    for point in found["points"]:
        change = "" if point["mixtures"] == 1 else _change(point["gain"])
        lines.append(_row(str(point["mixtures"]), _with_range(point["learned"]), change))
    return "\n".join(lines)


def calibration(places: Places) -> str:
    """How far confidence and accuracy of the shipped bundles lie apart."""
    results = {name: places.load(name) for name in SHIPPED}
    there = {name: result for name, result in results.items() if result and "calibration" in result}
    if not there:
        return NOT_YET
    lines = _head("bundle", "expected calibration error", "a wrong voxel is less sure (AUROC)")
    for name, result in there.items():
        found = result["calibration"]
        lines.append(_row(name, _dice(found["ece"]), _dice(found["error_auroc"])))
    return "\n".join(lines)


def overhead(places: Places) -> str:
    """Time of private ÷ plain."""
    found = places.load("overhead")
    if found is None:
        return f"Overhead of protection: {NOT_YET[0].lower()}{NOT_YET[1:]}"
    lines = _head("end to end", "private ÷ plain, median", "plain", "private", "cold start")
    for data in (HIPPOCAMPUS, BRAIN):
        entry, ratio = found[data.name], found[data.name]["ratio"]
        seconds = (f"{entry['seconds'][s]['total']:.2f} s" for s in ("plain", "mixup"))
        cold = " / ".join(f"{entry['cold_start'][s]:.1f} s" for s in ("plain", "mixup"))
        low, high = ratio["interval"]
        times = f"{ratio['median']:.2f} ({low:.2f} to {high:.2f})"
        lines.append(_row(f"{data.title}, {entry['n_pairs']} pairs", times, *seconds, cold))
    return "\n".join(lines)


def overhead_phases(places: Places) -> str:
    """Where the time of one segmentation goes, in milliseconds."""
    found = places.load("overhead")
    if found is None:
        return f"Phases: {NOT_YET[0].lower()}{NOT_YET[1:]}"
    phases = ("protect", "process", "recover", "write")
    lines = _head("milliseconds, median", *phases, "in all")
    for data in (HIPPOCAMPUS, BRAIN):
        for scheme, name in (("plain", "plain"), ("mixup", "private")):
            seconds = found[data.name]["seconds"][scheme]
            cells = (f"{1000 * seconds[phase]:.0f}" for phase in (*phases, "total"))
            lines.append(_row(f"{data.title}, {name}", *cells))
    return "\n".join(lines)


def training_time(places: Places) -> str:
    """How long the private hippocampus network was trained, and how far from plain it ends."""
    found = places.load("training-time")
    if found is None:
        return f"Time of training: {NOT_YET[0].lower()}{NOT_YET[1:]}"
    steps = found["sources"]["mixup"]["steps"]
    return (
        f"Trained from nothing, the private hippocampus network takes {found['minutes']:.0f} "
        f"minutes ({steps:,} steps) on {found['cores']} cores, and ends "
        f"{_change(found['margin'])} Dice from plain."
    )


def trainings(places: Places) -> str:
    """How long each data set was trained, and the validation Dice of what is shipped."""
    lines = _head("data set", "steps", "validation Dice of plain", "of private")
    for data in (HIPPOCAMPUS, BRAIN, *PICTURES):
        results = [places.load(f"{data.name}-{scheme}") for scheme in ("plain", "mixup")]
        scores = (_dice((result or {}).get("validation_dice")) for result in results)
        lines.append(_row(f"`{data.folder}`", f"{data.steps:,}", *scores))
    return "\n".join(lines)


def reached(places: Places) -> str:
    """Every goal, and whether it was reached."""
    lines = _head("what", "goal", "measured", "reached")
    for what, goal, measured, enough in goals(places):
        answer = "" if measured is None else "yes" if enough else "**no**"
        lines.append(_row(what, goal, measured or "not measured yet", answer))
    return "\n".join(lines)


def demo(places: Places) -> str:
    """What the demo measured on the MNI152 template."""
    found = places.load("demo")
    if found is None:
        return NOT_YET
    rows = {
        "plain": found["dice_plain"],
        "private, recovered at the site": found["dice_private"],
        "**read off the answer by the server, without the key**": found["answer_separation_dice"],
        "the reference's labels alone (knows nothing of the patient)": found[
            "reference_alone_dice"
        ],
    }
    lines = _head("MNI152 template, grey and white matter", "Dice")
    return "\n".join([*lines, *(_row(what, _dice(value)) for what, value in rows.items())])


def site(places: Places) -> str:
    """What a site installs."""
    found = places.load("site")
    if found is None:
        return NOT_YET
    return (
        f"A site's environment takes {found['megabytes']:.0f} MB (no torch); `veilseg --help` "
        f"answers in {found['help_seconds']:.2f} s."
    )


def plot(name: str, caption: str) -> Callable[[Places], str]:
    """A block that shows a plot of docs/images where there is one."""

    def show(places: Places) -> str:
        there = (places.images / f"{name}.png").is_file()
        return f"![{caption}](images/{name}.png)" if there else "No plot yet: `make claims`."

    return show


BLOCKS: dict[str, Callable[[Places], str]] = {
    "accuracy": accuracy,
    "gain": gain,
    "curve": curve,
    "mixtures": mixtures,
    "calibration": calibration,
    "overhead": overhead,
    "overhead-phases": overhead_phases,
    "training-time": training_time,
    "goals": reached,
    "trainings": trainings,
    "demo": demo,
    "site": site,
    "margins-plot": plot("margins", "Private minus plain for each data set, with intervals"),
    "curve-plot": plot("curve", "Dice over the mixing coefficient, learned and algebraic"),
    "mixtures-plot": plot("mixtures", "Dice over the number of mixtures averaged"),
    "calibration-plot": plot("calibration", "Accuracy over confidence of the shipped bundles"),
}


def _head(*cells: str) -> list[str]:
    return [_row(*cells), _row(*["---"] * len(cells))]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _people(entry: Result) -> str:
    return f"{entry['n_cases']} images of {entry['n_patients']} patients"


def _dice(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _range(interval: Sequence[float | None], sign: str = "") -> str:
    if None in interval:
        return "no interval: one patient"
    low, high = interval
    return f"{low:{sign}.3f} to {high:{sign}.3f}"


def _with_range(entry: dict[str, Any]) -> str:
    return f"{_dice(entry['dice'])} ({_range(entry['interval'])})"


def _change(entry: dict[str, Any]) -> str:
    return f"{entry['difference']:+.3f} ({_range(entry['interval'], '+')})"
