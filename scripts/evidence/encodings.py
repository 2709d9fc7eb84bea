"""Privacy-SF against plain, its controls, and keyed against unkeyed."""

from collections.abc import Iterator

from evidence.audits import ENCODED, KEYED, MIXUP, findings
from evidence.cells import NOT_YET, change, dice, head, people, row
from evidence.goals import LARGEST_LOSS, Goal, signed
from evidence.jobs import (
    BRAIN,
    CARDIAC,
    HIPPOCAMPUS,
    KEY_SEEDS,
    LINEAR,
    LOCAL,
    Data,
    keyed_name,
    longer,
)
from evidence.places import Places, Result
from evidence.summaries import Case, Load, difference, joined, mean, origin
from evidence.usage import overhead_name
from veilseg.audit.findings import Channel
from veilseg.audit.verdict import share_learned, strongest
from veilseg.bench.evidence.comparisons import EQUAL_SHARE

RESULT = "encodings"
DATA = (HIPPOCAMPUS, BRAIN, CARDIAC)
# Of a key, in Dice either way; of time, end to end (docs/performance.md asks for less).
LARGEST_CHANGE, LARGEST_OVERHEAD = 0.01, 1.3
CONTROLS = {"linear": LINEAR, "local": LOCAL}
# Where an encoding is to show less than a mixture does.
HIDDEN: tuple[Channel, ...] = ("image", "mask")
OF_CONTROLS = {
    "linear": "a linear map in place of the mapping network",
    "local": "the site's two networks alone, without a server",
}


def encodings(load: Load) -> Result | None:
    """Every comparison whose evaluations are there; None if there is none."""
    comparisons = {}
    for data in DATA:
        cases, sources = _together(
            load, {"plain": plain_name(data), "encoding": f"{data.name}-encoding"}
        )
        if cases:
            comparisons[data.name] = {
                "plain": mean(cases, "plain"),
                "encoding": mean(cases, "encoding"),
                "margin": difference(cases, "encoding", "plain"),
                **sources,
            }
    controls = {}
    for control, name in CONTROLS.items():
        cases, sources = _together(load, {"encoding": keyed_name(False, 0), control: name})
        if cases:
            controls[control] = {
                control: mean(cases, control),
                "gain": difference(cases, "encoding", control),
                **sources,
            }
    found = {"comparisons": comparisons, "controls": controls, "keyed": _keyed(load)}
    return found if comparisons else None


def plain_name(data: Data) -> str:
    """Of the network for raw images that was trained for as many steps as the encoded one."""
    return longer(data).name if data.raw_steps else f"{data.name}-plain"


def _keyed(load: Load) -> Result | None:
    """Keyed − unkeyed: each case by the mean over all seeds."""
    names = {
        f"{'keyed' if keyed else 'unkeyed'} {seed}": keyed_name(keyed, seed)
        for seed in KEY_SEEDS
        for keyed in (False, True)
    }
    cases, sources = _together(load, names)
    if not cases:
        return None
    for case in cases:
        for kind in ("keyed", "unkeyed"):
            case[kind] = sum(case[f"{kind} {seed}"] for seed in KEY_SEEDS) / len(KEY_SEEDS)
    by_seed = {
        str(seed): difference(cases, f"keyed {seed}", f"unkeyed {seed}") for seed in KEY_SEEDS
    }
    return {"difference": difference(cases, "keyed", "unkeyed"), "by_seed": by_seed, **sources}


def _together(load: Load, names: dict[str, str]) -> tuple[list[Case], Result]:
    found = {kind: load(name) for kind, name in names.items()}
    there = {kind: result for kind, result in found.items() if result is not None}
    return (joined(there), origin(there)) if len(there) == len(names) else ([], {})


def goals(places: Places) -> Iterator[Goal]:
    """What encoded segmentation was to reach, each with its figure."""
    found: Result = places.load(RESULT) or {"comparisons": {}, "controls": {}, "keyed": None}
    for data in (HIPPOCAMPUS, BRAIN):
        entry = found["comparisons"].get(data.name)
        value = None if entry is None else entry["margin"]["difference"]
        what = f"{data.title.lower()}: encoded − plain"
        yield _at_least(what, f"at least −{LARGEST_LOSS:g}", value, -LARGEST_LOSS)
    keyed = found["keyed"] and found["keyed"]["difference"]["difference"]
    goal = f"within {LARGEST_CHANGE:g} of 0"
    reached = keyed is not None and abs(keyed) <= LARGEST_CHANGE
    yield "with a key − without", goal, None if keyed is None else signed(keyed), reached
    for control in CONTROLS:
        entry = found["controls"].get(control)
        low = None if entry is None else entry["gain"]["interval"][0]
        what = f"gain over {OF_CONTROLS[control]}: lower end of the interval"
        yield what, "above 0", None if low is None else signed(low), low is not None and low > 0
    yield from _leaks(places)
    yield from _costs(places.load("overhead") or {})


def _leaks(places: Places) -> Iterator[Goal]:
    """What the strongest attacks on defaults learn, of all there is, against mixtures at ½."""
    for job, how in ((ENCODED, "encoded"), (KEYED, "encoded with a key")):
        for channel in HIDDEN:
            of_mixture, of_encoding = (
                _learned(places.load(one.name), channel) for one in (MIXUP, job)
            )
            what = f"hippocampus, {how}: share of the {channel} that is learned"
            known = of_mixture is not None and of_encoding is not None
            yield (
                what,
                "below a mixture's",
                f"{of_encoding:.2f} against {of_mixture:.2f}" if known else None,
                known and of_mixture - of_encoding > EQUAL_SHARE,
            )


def _learned(result: Result | None, channel: Channel) -> float | None:
    best = None if result is None else strongest(findings(result, channel))
    return None if best is None else share_learned(best)


def _costs(found: Result) -> Iterator[Goal]:
    for data in (HIPPOCAMPUS, BRAIN):
        entry = found.get(overhead_name(data.name, "encoding", "onnxruntime"))
        ratio = None if entry is None else entry["ratio"]["median"]
        yield (
            f"{data.title.lower()}: time, encoded ÷ plain, median",
            f"at most {LARGEST_OVERHEAD:g}",
            None if ratio is None else f"{ratio:.2f}",
            ratio is not None and ratio <= LARGEST_OVERHEAD,
        )
        what, goal = f"{data.title.lower()}: bytes both ways, encoded ÷ plain", "at most 1"
        if entry is None:
            yield what, goal, None, False
            continue
        encoded, plain = (
            sum(entry["bytes_per_image"][scheme].values()) for scheme in ("encoding", "plain")
        )
        yield what, goal, f"{encoded / plain:.2f}", encoded <= plain


def _at_least(what: str, goal: str, value: float | None, least: float) -> Goal:
    if value is None:
        return what, goal, None, False
    return what, goal, signed(value), value >= least


def table(places: Places) -> str:
    """Plain against encoded for each data set."""
    found = places.load(RESULT)
    if found is None:
        return NOT_YET
    lines = head("unseen patients", "plain", "encoded", "encoded − plain")
    for data in DATA:
        entry = found["comparisons"].get(data.name)
        if entry is None:
            lines.append(row(data.title, "not measured yet", "", ""))
            continue
        cells = (dice(entry[scheme]["dice"]) for scheme in ("plain", "encoding"))
        of = f"{data.title}, {people(entry['margin'])}"
        lines.append(row(of, *cells, change(entry["margin"])))
    return "\n".join(lines)


def controls(places: Places) -> str:
    """What the mapping network at the server brings, and what a key costs."""
    found = places.load(RESULT)
    if found is None or not found["controls"]:
        return NOT_YET
    lines = head("instead", "Dice", "what the scheme gains over it")
    for name, entry in found["controls"].items():
        lines.append(row(OF_CONTROLS[name], dice(entry[name]["dice"]), change(entry["gain"])))
    if found["keyed"] is not None:
        told = f"With a key − without, mean of {len(KEY_SEEDS)} seeds"
        lines += ["", f"{told}: {change(found['keyed']['difference'])}."]
    return "\n".join(lines)


def finding(places: Places) -> str:
    """Whether a server is needed at all: what the controls say, in words."""
    found = places.load(RESULT)
    if found is None or not found["controls"]:
        return f"Whether a server is needed: {NOT_YET[0].lower()}{NOT_YET[1:]}"
    told, needless = [], []
    for name, entry in found["controls"].items():
        low, high = entry["gain"]["interval"]
        said = "**no gain of the scheme is shown**"
        if low > 0:
            said = "the scheme gains over it"
        elif high < 0:
            said = "**it is better than the scheme**"
        if low <= 0:
            needless.append(name)
        of = dice(entry[name]["dice"])
        told.append(f"{OF_CONTROLS[name]}: {of} ({said}: {change(entry['gain'])})")
    scheme = found["comparisons"][HIPPOCAMPUS.name]["encoding"]["dice"]
    lines = f"On the hippocampus, where the scheme reaches {dice(scheme)}: {'; '.join(told)}."
    if "local" in needless:
        lines += " So it is not shown that a site needs the server there."
    return lines


def ablations(places: Places) -> str:
    """What each augmentation of sequences brings on validation patients, and a site's decoder."""
    found = places.load("encoding-ablations")
    if found is None:
        return NOT_YET
    lines = head("mapping network", "validation Dice", "against the default")
    rows = {one["name"]: one["validation_dice"] for one in found["rows"] if not one["site"]}
    for name, score in rows.items():
        than = "" if name == "default" else f"{score - rows['default']:+.3f}"
        lines.append(row(name, dice(score), than))
    of_site = [one for one in found["rows"] if one["site"]]
    if of_site:
        lines += ["", *head("site's decoder, default mapping network", "validation Dice")]
        lines += [row(one["name"], dice(one["validation_dice"])) for one in of_site]
    return "\n".join(lines)
