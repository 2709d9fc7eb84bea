"""What the server set out to reach in speed, memory and endurance, and what it reached."""

from collections.abc import Iterator

from evidence.goals import Goal
from evidence.jobs import BRAIN, HIPPOCAMPUS
from evidence.places import Places, Result
from evidence.speed import RUNTIME, SERVE, SOAK, VOLUME
from evidence.usage import overhead_name
from veilseg.bench.servers import ON_RAY, OURS

LEAST_SPEEDUP, LARGEST_DICE_CHANGE = 5.0, 0.002
LEAST_OF_BARE, CLIENTS_OF_BARE = 0.9, "8"
LEAST_SCALING = 1.8
LARGEST_OVERHEAD = {"mixup": 1.10, "encoding": 1.2}
MOST_MIB, LARGEST_GROWTH = 2048.0, 0.05
# What the server computes by, where the processor has it.
CHOSEN = ("OpenVINO bf16", "OpenVINO f32")


def goals(places: Places) -> Iterator[Goal]:
    """Every goal with its figure; nothing is rounded before it is compared."""
    yield from _runtimes(places.load(RUNTIME))
    yield from _servers(places.load(SERVE))
    yield from _overheads(places.load("overhead") or {})
    yield from _volume(places.load(VOLUME))
    yield from _soak(places.load(SOAK))


def _runtimes(found: Result | None) -> Iterator[Goal]:
    for name, network in (found or {"networks": {"each network": None}})["networks"].items():
        runtimes = {} if network is None else network["runtimes"]
        ran = [one for one in CHOSEN if runtimes.get(one, {}).get("status") == "run"]
        chosen = runtimes[ran[0]] if ran else {}
        yield at_least(
            f"{name}: {ran[0] if ran else 'the chosen runtime'}, times as fast as torch fp32",
            LEAST_SPEEDUP,
            chosen["speedup"]["median"] if chosen else None,
        )
        change = chosen.get("dice", {}).get("difference")
        yield (
            f"{name}: Dice after recovery, change",
            f"within {LARGEST_DICE_CHANGE:g} of 0",
            None if change is None else f"{change:+.4f}",
            change is not None and abs(change) <= LARGEST_DICE_CHANGE,
        )


def _servers(found: Result | None) -> Iterator[Goal]:
    rows = {(one["server"], one["replicas"]): one for one in (found or {"servers": []})["servers"]}
    ours = rows.get((OURS, 1), {}).get("clients", {}).get(CLIENTS_OF_BARE)
    yield at_least(
        f"our server ÷ the bare loop, {CLIENTS_OF_BARE} clients",
        LEAST_OF_BARE,
        None if ours is None else ours["of_bare"]["median"],
    )
    against = (found or {}).get("against_best_peer", {})
    for clients in ("1", "8", "32"):
        one = against.get(clients)
        what = f"our server ÷ the best peer, {clients} client{'' if clients == '1' else 's'}"
        yield at_least(what, 1.0, None if one is None else one["median"])
        slow = None if one is None or one["p95"] is None else one["p95"]["median"]
        yield at_most(f"{what}: time of the slowest twentieth", 1.0, slow)
    scaled = [one for one in (found or {}).get("scaling", []) if one["server"] == ON_RAY]
    yield at_least("on Ray, 2 replicas ÷ 1", LEAST_SCALING, scaled[0]["median"] if scaled else None)


def _overheads(found: Result) -> Iterator[Goal]:
    for data in (HIPPOCAMPUS, BRAIN):
        for scheme, most in LARGEST_OVERHEAD.items():
            entry = found.get(overhead_name(data.name, scheme, "onnxruntime"))
            ratio = None if entry is None else entry["ratio"]["median"]
            yield at_most(f"{data.title.lower()}: time, {scheme} ÷ plain, median", most, ratio)


def _volume(found: Result | None) -> Iterator[Goal]:
    for name, one in (found or {"bundles": {"a large image": None}})["bundles"].items():
        peak = None if one is None else one["site_peak_mib"]
        told = None if peak is None else f"{peak:.0f} MiB"
        enough = peak is not None and peak <= MOST_MIB
        yield f"{name}: memory of the site", f"at most {MOST_MIB:.0f} MiB", told, enough


def _soak(found: Result | None) -> Iterator[Goal]:
    failed = None if found is None else sum(found["failures"].values())
    told = None if found is None else f"{failed} of {found['requests']:,}"
    yield "soak: requests that failed", "0", told, failed == 0
    growth = None if found is None else found["memory"]["growth"]
    told = None if growth is None else f"{100 * growth:+.1f} %"
    enough = growth is not None and growth < LARGEST_GROWTH
    yield "soak: growth of memory", f"below {100 * LARGEST_GROWTH:.0f} %", told, enough


def at_least(what: str, least: float, value: float | None) -> Goal:
    """A ratio that is to be no smaller."""
    told = None if value is None else f"{value:.2f}"
    return what, f"at least {least:g}", told, value is not None and value >= least


def at_most(what: str, most: float, value: float | None) -> Goal:
    """A ratio that is to be no larger."""
    told = None if value is None else f"{value:.2f}"
    return what, f"at most {most:g}", told, value is not None and value <= most
