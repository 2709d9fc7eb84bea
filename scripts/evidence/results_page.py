"""Blocks of docs/results.md: every scheme on every data set."""

from collections.abc import Callable, Iterator

from evidence.cells import between, change, dice, head, people, plot, row
from evidence.places import Places, Result
from evidence.verdicts import CLAIMS, RESULT, compared
from veilseg.audit.findings import CHANNELS
from veilseg.bench.evidence.cells import COMPARATORS, PRIVATE, table
from veilseg.bench.evidence.comparisons import EQUAL_SHARE, SCHEMES, shortfalls
from veilseg.bench.evidence.data import ALL

MAKE = "evidence"
NOT_YET = f"Not measured yet: `make {MAKE}`."
WAITING = "not measured yet"


def state(places: Places) -> str:
    """How many cells are measured, of what budget, by the code of which days."""
    cells = _cells(places)
    lines = head("data set", "steps", "measured of cells", "seeds", "attackers", "at commits")
    for data in ALL:
        mine = [one for one in cells.values() if one["data"] == data.name]
        every = sum(cell.data == data for cell in table())
        seeds = sorted({one["seed"] for one in mine})
        told = (
            sorted({f"{one['definition']['steps']:,}" for one in mine}),
            [f"{len(mine)} of {every}" if mine else f"{WAITING}, {every} cells"],
            [str(seed) for seed in seeds],
            sorted({one["effort"] for one in mine}),
            sorted({one["commit"][:7] for one in mine if one["commit"]}),
        )
        lines.append(row(data.title, *(", ".join(one) or "–" for one in told)))
    return "\n".join(lines)


def accuracy(places: Places) -> str:
    """Dice, HD95 and surface Dice of every scheme, with intervals over patients."""
    lines = head("unseen patients", "scheme", "seeds", "Dice", "HD95", "surface Dice")
    for title, entry in _entries(places):
        if entry is None:
            lines.append(row(title, WAITING, "", "", "", ""))
            continue
        for scheme, found in _schemes(entry["accuracy"]):
            what = f"{title}, {people(found['dice'])}"
            distance = f"{_with(found['hd95'], 2)} {_unit(places, title)}"
            cells = (_with(found["dice"]), distance, _with(found["nsd"]))
            lines.append(row(what, scheme, str(len(found["seeds"])), *cells))
    return "\n".join(lines)


def margins(places: Places) -> str:
    """Every scheme − plain, paired by image."""
    others = [scheme for scheme in SCHEMES if scheme in (*PRIVATE, *COMPARATORS)]
    lines = head("Dice − plain's", *others)
    measured = {(cell.data.title, cell.scheme) for cell in table()}
    for title, entry in _entries(places):
        found = {} if entry is None else entry["margins"]
        cells = (
            _change(found[one]) if one in found else WAITING if (title, one) in measured else "–"
            for one in others
        )
        lines.append(row(title, *cells))
    return "\n".join(lines)


def against(places: Places) -> str:
    """Private schemes and comparators, at equal or less leakage."""
    lines = head("compared", "Dice, difference", "learned more on", "better at no more leakage")
    for title, entry in _entries(places):
        for private, rows in {} if entry is None else entry["against"].items():
            for other, found in rows.items():
                cells = (_change(found["difference"]), _worse(found["shares"]))
                verdict = {True: "yes", False: "**no**", None: WAITING}[found["better"]]
                lines.append(row(f"{title}: {private} − {other}", *cells, verdict))
    return "\n".join(lines) if len(lines) > 2 else NOT_YET


def _worse(shares: Result) -> str:
    """Channels on which a private scheme shows more than the comparator; or nothing is known."""
    told = []
    for channel, (own, other) in shares.items():
        if own is None or other is None:
            told.append(f"{channel} not known")
        elif own > other + EQUAL_SHARE:
            told.append(f"{channel} ({own:.2f} to {other:.2f})")
    return ", ".join(told) or "none"


def leaks(places: Places) -> str:
    """The strongest attack on each channel of every scheme."""
    lines = head("audited", "scheme", *CHANNELS)
    for title, entry in _entries(places):
        if entry is None:
            lines.append(row(title, WAITING, *[""] * len(CHANNELS)))
            continue
        for scheme, found in _schemes(entry["leakage"]):
            lines.append(row(title, scheme, *(_leak(found[channel]) for channel in CHANNELS)))
    return "\n".join(lines)


def _leak(best: Result | None) -> str:
    if best is None:
        return "no attack ran with its controls"
    nothing = f"knowing nothing {best['nothing_known']:.2f}"
    value = f"{best['metric']} {dice(best['value'], 2)} ({between(best['interval'])})"
    told = f"{best['attack']}: {value}; {nothing}; share {best['share']:.2f}"
    if not best["colluding_site"]:
        return told
    alone = best.get("alone")
    without = "not known" if alone is None else f"{alone['share']:.2f} ({alone['attack']})"
    return f"{told}, with a site on its side; without {without}"


def asked(places: Places) -> str:
    """What a server learns beyond that where a site is told to send more."""
    lines = head("cell", "channel", "if told to", "reaches", "by default")
    for name, cell in _cells(places).items():
        for channel, found in cell["leakage"].items():
            best, usual = found["if_asked"], found["by_default"]
            if best is not None and (usual is None or best["share"] > usual["share"]):
                known = "not known" if usual is None else f"share {usual['share']:.2f}"
                lines.append(row(name, channel, best["setting"], _leak(best), known))
    if not _cells(places):
        return NOT_YET
    return "\n".join(lines) if len(lines) > 2 else "More proxies taught no attack more."


def controls(places: Places) -> str:
    """How many attacks of every cell came through their controls, and why others did not run."""
    lines = head("cell", "ran with their controls", "did not")
    for name, cell in _cells(places).items():
        attacks = [one for leak in cell["leakage"].values() for one in leak["attacks"]]
        ran = sorted({one["attack"] for one in attacks if one["status"] == "run"})
        rest = {f"{one['attack']}: {one['status']}" for one in attacks if one["status"] != "run"}
        lines.append(row(name, ", ".join(ran) or "none", "; ".join(sorted(rest)) or "–"))
    return "\n".join(lines) if len(lines) > 2 else NOT_YET


def nearest(places: Places) -> str:
    """How far every scheme is from keeping accuracy and every channel at once."""
    lines = head("falls short by", "scheme", "Dice", "image", "mask", "identity")
    for title, entry in _entries(places):
        if entry is None:
            lines.append(row(title, WAITING, "", "", "", ""))
            continue
        best = (entry["nearest"] or {}).get("scheme")
        for scheme, margin in _schemes(entry["margins"]):
            missing = shortfalls(margin, entry["leakage"][scheme])
            name = f"**{scheme}** (nearest)" if scheme == best else scheme
            lines.append(row(title, name, *(dice(value, 2) for value in missing.values())))
    return "\n".join(lines)


def cost(places: Places) -> str:
    """Time, bytes and multiply-adds of one image."""
    lines = head(
        *("one image", "scheme", "ms at the site", "ms at the server", "÷ plain, median"),
        *("KB sent", "KB received", "tiles", "10⁶ multiply-adds of a tile: site", "server"),
    )
    cells = sorted(_cells(places).values(), key=lambda one: one["seed"])
    for data in ALL:
        for scheme in SCHEMES:
            mine = [one for one in cells if (one["data"], one["scheme"]) == (data.name, scheme)]
            if mine:
                lines.append(row(data.title, scheme, *_cost(mine[0]["cost"])))
    return "\n".join(lines) if len(lines) > 2 else NOT_YET


def _cost(found: Result) -> Iterator[str]:
    for where in ("site", "server"):
        yield f"{1000 * found['seconds'][where]:.1f}"
    ratio = found["ratio"]
    if ratio is None:
        yield "–"
    else:
        low, high = ratio["interval"]
        yield f"{ratio['median']:.2f} ({low:.2f} to {high:.2f})"
    for way in ("sent", "received"):
        yield f"{found['bytes'][way] / 1000:.1f}"
    yield f"{found['tiles']:g}"
    for where in ("site", "server"):
        yield f"{found['multiply_adds'][where] / 1e6:,.0f}"


def seen(places: Places) -> str:
    """How many examples each network was shown."""
    lines = head("cell", "steps before", "steps", "images a step", "images shown")
    for name, cell in _cells(places).items():
        told = cell["trained"]
        parts = ", ".join(f"{part} {count:,}" for part, count in told["examples"].items())
        steps = (f"{told[what]:,}" for what in ("steps_before", "steps"))
        lines.append(row(name, *steps, str(told["batch"]), parts))
    return "\n".join(lines) if len(lines) > 2 else NOT_YET


def claims(places: Places) -> str:
    """Each claim of both papers, answered."""
    lines = head("paper", "claim", "rule", "measured", "answer")
    for one in CLAIMS:
        verdict, figures = one.judge(places)
        lines.append(row(one.paper, one.claim, one.rule, figures, f"**{verdict}**"))
    return "\n".join(lines)


def _cells(places: Places) -> dict[str, Result]:
    found: dict[str, Result] = (places.load(RESULT) or {"cells": {}})["cells"]
    return {cell.name: found[cell.name] for cell in table() if cell.name in found}


def _entries(places: Places) -> Iterator[tuple[str, Result | None]]:
    for data in ALL:
        yield data.title, compared(places).get(data.name)


def _schemes(found: Result) -> Iterator[tuple[str, Result]]:
    for scheme in SCHEMES:
        if scheme in found:
            yield scheme, found[scheme]


def _unit(places: Places, title: str) -> str:
    name = next(data.name for data in ALL if data.title == title)
    cell = next(one for one in _cells(places).values() if one["data"] == name)
    return "px" if cell["unit"] == "pixel" else "mm"


def _with(found: Result, digits: int = 3) -> str:
    """A mean with its interval."""
    low, high = found["interval"]
    spread = "" if low is None else f" ({low:.{digits}f} to {high:.{digits}f})"
    return f"{dice(found['value'], digits)}{spread}"


def _change(found: Result) -> str:
    return change({"difference": found["value"], "interval": found["interval"]})


BLOCKS: dict[str, Callable[[Places], str]] = {
    "results-state": state,
    "results-claims": claims,
    "results-accuracy": accuracy,
    "results-margins": margins,
    "results-margins-plot": plot(
        "results-margins", "Each scheme minus plain on each data set, with intervals", MAKE
    ),
    "results-leaks": leaks,
    "results-asked": asked,
    "results-controls": controls,
    "results-frontier-plot": plot(
        "results-frontier", "Dice kept over what is learned, with comparators", MAKE
    ),
    "results-frontier-others-plot": plot(
        "results-frontier-others", "Dice kept over what is learned, other data sets", MAKE
    ),
    "results-against": against,
    "results-nearest": nearest,
    "results-cost": cost,
    "results-seen": seen,
}
