"""What both papers claim, and what the figures say to it: by rules, never by hand."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from evidence import together
from evidence.goals import LARGEST_LOSS, LARGEST_OVERHEAD, Goal, signed
from evidence.places import Places, Result
from veilseg.audit.findings import RUN, Channel, Occurs
from veilseg.audit.verdict import LEAKS, LEAKS_IN_PART, share_learned, strongest
from veilseg.bench.evidence.cells import COMPARATORS, PRIVATE, REPEATED
from veilseg.bench.evidence.data import ALL

RESULT = "evidence"
HOLDS, IN_PART, FAILS, UNKNOWN = "holds", "holds in part", "does not hold", "not measured yet"
ENOUGH_SETS = 5  # of six
# Data sets, or pairs of a data set and something else, that meet a rule; None: not known.
Met = Mapping[str, bool | None]


@dataclass(frozen=True)
class Claim:
    """One statement of a paper.

    Attributes
    ----------
    paper : str
    claim : str
    rule : str
        What decides, in words.
    judge : callable
        From the results to a verdict and the figures that it is by.
    """

    paper: str
    claim: str
    rule: str
    judge: Callable[[Places], tuple[str, str]]


def counted(met: Met, enough: int) -> str:
    """Verdict by how many meet a rule; while what is not known could change it, none is given."""
    yes, unknown = (sum(one is what for one in met.values()) for what in (True, None))
    if yes >= enough:
        return HOLDS
    if yes + unknown >= enough or (not yes and unknown):
        return UNKNOWN
    return IN_PART if yes else FAILS


def graded(shares: Mapping[str, float | None]) -> str:
    """Verdict by the largest share of what there is to learn; not known is never safe."""
    known = [share for share in shares.values() if share is not None]
    if known and max(known) >= LEAKS:
        return FAILS
    if len(known) < len(shares) or not known:
        return UNKNOWN
    return HOLDS if max(known) < LEAKS_IN_PART else IN_PART


def compared(places: Places) -> Result:
    """What all cells say together, by data set; empty where nothing is measured."""
    found: Result = (places.load(RESULT) or {"comparisons": {}})["comparisons"]
    return found


def near_plain(places: Places, scheme: str) -> dict[str, bool | None]:
    """Whether Dice is surely within what may be lost, for each data set."""
    lows = {data.title: _low(compared(places).get(data.name), scheme) for data in ALL}
    return {title: None if low is None else low >= -LARGEST_LOSS for title, low in lows.items()}


def _low(entry: Result | None, scheme: str) -> float | None:
    margin = {} if entry is None else entry["margins"].get(scheme, {})
    low: float | None = margin.get("interval", [None])[0]
    return low


def _accuracy(scheme: str) -> Callable[[Places], tuple[str, str]]:
    def judge(places: Places) -> tuple[str, str]:
        met = near_plain(places, scheme)
        lows = [_low(entry, scheme) for entry in compared(places).values()]
        known = [low for low in lows if low is not None]
        worst = f"; lowest end {signed(min(known))}" if known else ""
        return counted(met, ENOUGH_SETS), _told(met, "data sets") + worst

    return judge


def better_than_others(places: Places, scheme: str) -> dict[str, bool | None]:
    """Whether a scheme is more accurate at no more leakage, for each set and comparator."""
    found = compared(places)
    return {
        f"{data.title}, {other}": found.get(data.name, {"against": {}})["against"]
        .get(scheme, {})
        .get(other, {})
        .get("better")
        for data in REPEATED
        for other in COMPARATORS
    }


def _better(scheme: str) -> Callable[[Places], tuple[str, str]]:
    def judge(places: Places) -> tuple[str, str]:
        met = better_than_others(places, scheme)
        return counted(met, len(met)), _told(met, "comparisons")

    return judge


def _overhead(places: Places) -> tuple[str, str]:
    cells = _first_cells(places, "mixup")
    ratios = {data.title: cells.get(data.name, {}).get("cost", {}).get("ratio") for data in ALL}
    met = {
        title: None if ratio is None else ratio["median"] <= LARGEST_OVERHEAD
        for title, ratio in ratios.items()
    }
    medians = sorted(ratio["median"] for ratio in ratios.values() if ratio is not None)
    figures = f"; time {medians[0]:.2f} to {medians[-1]:.2f} times plain's" if medians else ""
    shares = [
        100 * one["cost"]["multiply_adds"]["site"] / one["cost"]["multiply_adds"]["server"]
        for one in cells.values()
    ]
    if shares:
        figures += f", {min(shares):.0f} to {max(shares):.0f} % of the server's multiply-adds"
    return counted(met, len(met)), _told(met, "data sets") + figures


def _learned(scheme: str, *channels: str) -> Callable[[Places], tuple[str, str]]:
    def judge(places: Places) -> tuple[str, str]:
        shares = {}
        for data in ALL:
            entry = compared(places).get(data.name, {"leakage": {}})
            for channel in channels:
                best = entry["leakage"].get(scheme, {}).get(channel)
                shares[f"{data.title}, {channel}"] = None if best is None else best["share"]
        return graded(shares), _largest(shares)

    return judge


def _inverted(places: Places) -> tuple[str, str]:
    shares: dict[str, float | None] = {data.title: None for data in ALL}
    for data in ALL:
        cell = _first_cells(places, "encoding").get(data.name)
        attacks = [] if cell is None else cell["leakage"]["image"]["attacks"]
        found = [share_learned(one) for one in attacks if (one["attack"], one["status"]) == A10]
        shares[data.title] = max((one for one in found if one is not None), default=None)
    return graded(shares), _largest(shares)


A10 = ("A10", RUN)
# Smaller differences of validation Dice are called none (docs/experiments.md).
NOISE = 0.003
GIVEN: dict[Channel, Occurs] = {"image": "by default", "mask": "if asked for"}


def _given(places: Places) -> tuple[str, str]:
    """What is learned of what sites gave to a fit, by a site that sides with the provider."""
    shares: dict[str, float | None] = {}
    for name, job in together.INVERTED.items():
        channels = (places.load(name) or {"channels": {}})["channels"]
        # A mask leaves for a fit alone: nobody is asked for it who only has images segmented.
        for channel, occurs in GIVEN.items():
            best = strongest(channels.get(channel, []), occurs)
            share = None if best is None else share_learned(best)
            shares[f"{job.data.title}, {channel}"] = share
    return graded(shares), _largest(shares)


def _together(places: Places) -> tuple[str, str]:
    met = {
        what: None if measured is None else enough
        for what, goal, measured, enough in together.goals(places)
        if goal == "above 0"
    }
    return counted(met, len(met)), _told(met, "data sets")


def _augmentation(places: Places) -> tuple[str, str]:
    rows = (places.load("encoding-ablations") or {"rows": []})["rows"]
    dice = {one["name"]: one["validation_dice"] for one in rows}
    lacking = ("no block shift", "no jitter")
    met = {
        name: dice["default"] - dice[name] > NOISE if {"default", name} <= dice.keys() else None
        for name in lacking
    }
    return counted(met, len(met)), _told(met, "operations")


def _first_cells(places: Places, scheme: str) -> dict[str, Any]:
    """Of a scheme, the cell of the first seed that is measured, by data set."""
    found: dict[str, Any] = {}
    for cell in (places.load(RESULT) or {"cells": {}})["cells"].values():
        held = found.get(cell["data"])
        if cell["scheme"] == scheme and (held is None or cell["seed"] < held["seed"]):
            found[cell["data"]] = cell
    return found


def _told(met: Met, of: str) -> str:
    yes = sum(one is True for one in met.values())
    known = sum(one is not None for one in met.values())
    return f"met by {yes}; {known} of {len(met)} {of} measured"


def _largest(shares: Mapping[str, float | None]) -> str:
    known = {name: share for name, share in shares.items() if share is not None}
    count = f"{len(known)} of {len(shares)} measured"
    if not known:
        return count
    where = max(known, key=lambda name: known[name])
    return f"at most {known[where]:.2f} ({where}); {count}"


MIXUP, SF = "Mixup-Privacy (arXiv:2305.13756)", "Privacy-SF (doi:10.1016/j.imavis.2024.105246)"
SHARE = (
    f"largest share of what there is to learn: below {LEAKS_IN_PART:g} holds, below {LEAKS:g} in "
    "part, else not"
)
NEAR = (
    f"lower end of private − plain at least −{LARGEST_LOSS:g} on {ENOUGH_SETS} of {len(ALL)} data "
    "sets; on fewer, in part"
)
CLAIMS = (
    Claim(MIXUP, "as accurate as a system trained on raw images", NEAR, _accuracy("mixup")),
    Claim(
        MIXUP,
        "better than other privacy-preserving methods",
        "more accurate, with its whole interval, at no more leakage on any channel, than each "
        "comparator on both data sets; than some, in part",
        _better("mixup"),
    ),
    Claim(
        MIXUP,
        "little computational overhead",
        f"median time at most {LARGEST_OVERHEAD:g} times plain's on every data set; on some, in "
        "part",
        _overhead,
    ),
    Claim(MIXUP, "the mixture is hard to separate", f"image, {SHARE}", _learned("mixup", "image")),
    Claim(
        SF,
        "images and masks are protected in inference",
        f"image and mask, {SHARE}",
        _learned("encoding", "image", "mask"),
    ),
    Claim(
        SF,
        "images and masks are protected in training",
        f"image (A10) and mask (A16e) of the pairs that sites gave to a fit, {SHARE}",
        _given,
    ),
    Claim(SF, "a model-inversion attack fails", f"A10, {SHARE}", _inverted),
    Claim(SF, "accurate on data sets of different modalities", NEAR, _accuracy("encoding")),
    Claim(
        SF,
        "centers gain by training together",
        "lower end of encoded together − best site alone, on the other sites' patients, above 0 on "
        "every data set of several sites; on some, in part",
        _together,
    ),
    Claim(
        SF,
        "augmentation of sequences helps",
        f"validation Dice falls by more than {NOISE:g} without each of the operations that are on "
        "by default; without some, in part; one run each",
        _augmentation,
    ),
)


def goals(places: Places) -> Iterable[Goal]:
    """What was to be reached with private schemes, and what was."""
    yield from _near_plain_goals(places)
    for scheme in PRIVATE:
        met = better_than_others(places, scheme)
        known = [one for one in met.values() if one is not None]
        measured = f"{sum(known)} of {len(known)}" if known else None
        what = f"{scheme}: more accurate than a comparator at no more leakage"
        yield what, f"{len(met)} of {len(met)}", measured, sum(known) == len(met)
    for data in ALL:
        entry = compared(places).get(data.name) or {"nearest": None}
        best = entry["nearest"]
        measured = None if best is None else f"{best['scheme']} falls {best['largest']:.2f} short"
        what = f"{data.title}: accuracy and every channel at once, the nearest scheme"
        yield what, "falls 0 short", measured, best is not None and best["largest"] == 0


def _near_plain_goals(places: Places) -> Iterator[Goal]:
    for scheme in PRIVATE:
        met = near_plain(places, scheme)
        known = [one for one in met.values() if one is not None]
        what = f"{scheme} − plain, data sets whose lower end is at least −{LARGEST_LOSS:g}"
        measured = f"{sum(known)} of {len(known)}" if known else None
        yield what, f"{ENOUGH_SETS} of {len(met)}", measured, sum(known) >= ENOUGH_SETS
