"""What cells say together: accuracy, margins to plain, and private schemes against comparators."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from veilseg.audit.findings import CHANNELS
from veilseg.bench.evidence.cells import COMPARATORS, PLAIN, PRIVATE
from veilseg.bench.evidence.means import averaged, difference_of_dice, over_seeds
from veilseg.bench.evidence.measure import METRICS

Document = dict[str, Any]
BySeed = Mapping[int, Document]

SCHEMES: Final = (PLAIN, *PRIVATE, *COMPARATORS)
# Shares of what there is to learn that lie no further apart count as equal.
EQUAL_SHARE: Final = 0.02
# What all channels at once were to stay within: Dice below plain, SSIM and Dice above knowing
# nothing, and times the rate of guessing.
LARGEST_LOSS: Final = 0.02
LARGEST_EXCESS: Final = 0.05
TIMES_CHANCE: Final = 2.0


def comparisons(cells: Sequence[Document]) -> Document:
    """By data set, of every scheme that was measured.

    Parameters
    ----------
    cells : sequence of dict
        As :func:`~veilseg.bench.evidence.measure.measure` gives them. Those that were trained for
        another number of steps, or on other data, than the first of their data set are left out.

    Returns
    -------
    dict
        ``accuracy`` and ``leakage`` by scheme, ``margins`` of each scheme to plain, ``against`` by
        private scheme and comparator, and ``nearest``: which scheme comes nearest to keeping
        accuracy and all channels at once.
    """
    found: Document = {}
    for data, schemes in _grouped(cells).items():
        learned = {scheme: strongest_of(by_seed) for scheme, by_seed in schemes.items()}
        margins = {
            scheme: _paired(by_seed, schemes[PLAIN])
            for scheme, by_seed in schemes.items()
            if scheme != PLAIN and PLAIN in schemes
        }
        found[data] = {
            "accuracy": {scheme: _accuracy(by_seed) for scheme, by_seed in schemes.items()},
            "margins": {scheme: margin for scheme, margin in margins.items() if margin},
            "leakage": learned,
            "against": dict(_against(schemes, learned)),
            "nearest": nearest(margins, learned),
        }
    return found


def _grouped(cells: Sequence[Document]) -> dict[str, dict[str, dict[int, Document]]]:
    """Cells by data set, scheme and seed, of one budget each."""
    found: dict[str, dict[str, dict[int, Document]]] = {}
    first: dict[str, tuple[int, str]] = {}
    for cell in sorted(cells, key=lambda one: (SCHEMES.index(one["scheme"]), one["seed"])):
        budget = cell["definition"]["steps"], cell["data_sha256"]
        if first.setdefault(cell["data"], budget) == budget:
            found.setdefault(cell["data"], {}).setdefault(cell["scheme"], {})[cell["seed"]] = cell
    return found


def _accuracy(by_seed: BySeed) -> Document:
    several = list(by_seed.values())
    return {
        "seeds": sorted(by_seed),
        **{name: averaged(over_seeds(several, name), name) for name in METRICS},
    }


def _paired(own: BySeed, other: BySeed) -> Document | None:
    """Dice of the first − of the second, over the seeds that both have; None where there is none.

    A difference is of the same cases and seeds: each case by its mean over seeds.
    """
    seeds = sorted(own.keys() & other.keys())
    if not seeds:
        return None
    first, second = ([those[seed] for seed in seeds] for those in (own, other))
    found = difference_of_dice(over_seeds(first, "dice"), over_seeds(second, "dice"))
    return {"seeds": seeds, **found}


def strongest_of(by_seed: BySeed) -> Document:
    """By channel, what the server learns of the seed that shows most; None where nothing ran.

    With it, as ``alone``, the most that it learns where no site sides with it.
    """
    learned: Document = {}
    for channel in CHANNELS:
        of_channel = [cell["leakage"][channel] for cell in by_seed.values()]
        best, alone = (_most([one[who] for one in of_channel]) for who in ("by_default", "alone"))
        learned[channel] = None if best is None else {**best, "alone": alone}
    return learned


def _most(found: Iterable[Document | None]) -> Document | None:
    known = [one for one in found if one is not None]
    return max(known, key=lambda one: float(one["share"]), default=None)


def _against(
    schemes: Mapping[str, BySeed], learned: Mapping[str, Document]
) -> Iterator[tuple[str, Document]]:
    for private in PRIVATE:
        rows = {}
        for other in COMPARATORS:
            if private in schemes and other in schemes:
                gained = _paired(schemes[private], schemes[other])
                if gained is not None:
                    rows[other] = verdict(gained, learned[private], learned[other])
        if rows:
            yield private, rows


def verdict(gained: Document, own: Mapping[str, Any], other: Mapping[str, Any]) -> Document:
    """Whether a private scheme is more accurate at no more leakage; None where that is not known.

    More accurate: the lower end of the paired interval lies above 0. No more leakage: on no channel
    is the share of what there is to learn larger by more than :data:`EQUAL_SHARE`.
    """
    shares = {channel: (_share(own[channel]), _share(other[channel])) for channel in CHANNELS}
    known = [(a, b) for a, b in shares.values() if a is not None and b is not None]
    no_more: bool | None = all(mine <= theirs + EQUAL_SHARE for mine, theirs in known)
    if no_more and len(known) < len(shares):
        no_more = None
    low = gained["interval"][0]
    more_accurate = None if low is None else low > 0
    better: bool | None = None
    if False in (no_more, more_accurate):
        better = False
    elif None not in (no_more, more_accurate):
        better = True
    return {
        "difference": gained,
        "shares": shares,
        "more_accurate": more_accurate,
        "no_more_leakage": no_more,
        "better": better,
    }


def _share(best: Document | None) -> float | None:
    return None if best is None else best["share"]


def nearest(
    margins: Mapping[str, Document | None], learned: Mapping[str, Document]
) -> Document | None:
    """The scheme whose largest shortfall is smallest, with every shortfall; 0 where within.

    Schemes of which one of the figures is not known are left out.
    """
    found = []
    for scheme, margin in margins.items():
        missing = shortfalls(margin, learned[scheme])
        if None not in missing.values():
            found.append((max(missing.values()), scheme, missing))
    if not found:
        return None
    largest, scheme, missing = min(found)
    return {"scheme": scheme, "largest": largest, "shortfalls": missing}


def shortfalls(margin: Document | None, learned: Mapping[str, Any]) -> dict[str, Any]:
    """How far accuracy and three channels are from what all at once were to stay within."""
    missing: dict[str, Any] = {"dice": None}
    if margin is not None:
        missing["dice"] = round(max(0.0, -margin["value"] - LARGEST_LOSS), 4)
    for channel in ("image", "mask", "identity"):
        one, allowed = learned[channel], LARGEST_EXCESS
        if one is None:
            missing[channel] = None
            continue
        if channel == "identity":
            allowed = (TIMES_CHANCE - 1) * one["nothing_known"]
        missing[channel] = round(max(0.0, one["value"] - one["nothing_known"] - allowed), 4)
    return missing
