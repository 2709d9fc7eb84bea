"""Tables in Markdown, and how figures are written in them."""

from collections.abc import Callable, Sequence
from typing import Any

from evidence.places import Places, Result

NOT_YET = "Not measured yet: `make claims`."


def head(*cells: str) -> list[str]:
    """Head of a table in Markdown."""
    return [row(*cells), row(*["---"] * len(cells))]


def row(*cells: str) -> str:
    """One line of it."""
    return f"| {' | '.join(cells)} |"


def people(entry: Result) -> str:
    """Images and patients of an entry."""
    return f"{entry['n_cases']} images of {entry['n_patients']} patients"


def dice(value: float | None, digits: int = 3) -> str:
    """A number, or a dash."""
    return "–" if value is None else f"{value:.{digits}f}"


def between(interval: Sequence[float | None], sign: str = "") -> str:
    """An interval, if there is one."""
    if None in interval:
        return "no interval: one patient"
    low, high = interval
    return f"{low:{sign}.3f} to {high:{sign}.3f}"


def with_range(entry: dict[str, Any]) -> str:
    """A Dice with its interval."""
    return f"{dice(entry['dice'])} ({between(entry['interval'])})"


def change(entry: dict[str, Any]) -> str:
    """A signed difference with its interval."""
    return f"{entry['difference']:+.3f} ({between(entry['interval'], '+')})"


def plot(name: str, caption: str, target: str = "claims") -> Callable[[Places], str]:
    """A block that shows a plot of docs/images where there is one."""

    def show(places: Places) -> str:
        there = (places.images / f"{name}.png").is_file()
        return f"![{caption}](images/{name}.png)" if there else f"No plot yet: `make {target}`."

    return show
