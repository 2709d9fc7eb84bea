"""What the project set out to reach in accuracy and time, and what it reached."""

from collections.abc import Iterator

from evidence.jobs import BRAIN, HIPPOCAMPUS, PICTURES
from evidence.places import Places, Result
from evidence.summaries import POOLED

LEAST_PLAIN = {HIPPOCAMPUS.name: 0.875, POOLED: 0.85}
LARGEST_LOSS = 0.02
LARGEST_OVERHEAD = 1.15
MOST_MINUTES = 20.0

# What, the goal, what was measured (None: not yet), whether that is enough.
Goal = tuple[str, str, str | None, bool]


def goals(places: Places) -> list[Goal]:
    """Every goal with its figure; nothing is rounded before it is compared."""
    found: Result = places.load("margins") or {"comparisons": {}, "pooled_gain": None}
    return [*_accuracy(found), _gain(found["pooled_gain"]), *_overhead(places), _time(places)]


def _accuracy(found: Result) -> Iterator[Goal]:
    titles = {HIPPOCAMPUS.name: "hippocampus", POOLED: "brain tissue, five folds"}
    for name, title in titles.items():
        entry, least = found["comparisons"].get(name), LEAST_PLAIN[name]
        dice = None if entry is None else entry["plain"]["dice"]
        yield (
            f"{title}: Dice of plain",
            f"at least {least:g}",
            None if dice is None else f"{dice:.3f}",
            dice is not None and dice >= least,
        )
        yield _margin(title, entry)
    for data in PICTURES:
        yield _margin(data.title, found["comparisons"].get(data.name))


def _margin(title: str, entry: Result | None) -> Goal:
    what = f"{title}: private − plain"
    goal = f"at least −{LARGEST_LOSS:g}"
    if entry is None:
        return what, goal, None, False
    difference = entry["margin"]["difference"]
    return what, goal, signed(difference), difference >= -LARGEST_LOSS


def _gain(pooled: Result | None) -> Goal:
    what = "learned − algebraic, pooled: lower end of the interval"
    if pooled is None:
        return what, "above 0", None, False
    low = pooled["interval"][0]
    return what, "above 0", signed(low), low > 0


def _overhead(places: Places) -> Iterator[Goal]:
    found = places.load("overhead")
    for data in (HIPPOCAMPUS, BRAIN):
        median = None if found is None else found[data.name]["ratio"]["median"]
        yield (
            f"{data.title.lower()}: time, private ÷ plain, median",
            f"at most {LARGEST_OVERHEAD:g}",
            None if median is None else f"{median:.2f}",
            median is not None and median <= LARGEST_OVERHEAD,
        )


def _time(places: Places) -> Goal:
    found = places.load("training-time")
    what = "minutes of training to within 0.02 of plain on the hippocampus"
    goal = f"at most {MOST_MINUTES:g}"
    if found is None:
        return what, goal, None, False
    near = found["margin"]["difference"] >= -LARGEST_LOSS
    minutes = found["minutes"]
    reached = f"{minutes:.1f}" if near else f"not within 0.02 after {minutes:.1f}"
    return what, goal, reached, near and minutes <= MOST_MINUTES


def signed(value: float) -> str:
    """With a sign, as people write it."""
    return f"{value:+.3f}".replace("-", "−")
