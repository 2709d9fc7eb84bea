"""What is measured: a scheme on a data set with a seed is a cell."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, Literal

from veilseg.bench.evidence.data import ALL, CARDIAC, HIPPOCAMPUS, Data
from veilseg.errors import WrongUsage
from veilseg.schemes.strength import DEFAULT_STRENGTHS, variant_of
from veilseg.training.recipe import Recipe

# Of the attackers; with none, nothing is known of what leaks.
Effort = Literal["full", "quick", "none"]

PLAIN: Final = "plain"
PRIVATE: Final = ("mixup", "encoding")
COMPARATORS: Final = ("deformation", "privacy_net", "noise")
SEEDS: Final = (0, 1, 2)
# Where comparators and every seed are measured.
REPEATED: Final = (HIPPOCAMPUS, CARDIAC)

# On each of the four channels, the strongest attacks on what a scheme sends.
ATTACKS: Final = ("A2", "A5", "A16", "A15", "A14")
ON_ENCODINGS: Final = ("A10", "A12p", "A16e", "A12", "A15e", "A14")
# Of each cell, timed beside plain by turns.
TIMED_IMAGES: Final = 10


@dataclass(frozen=True)
class Run:
    """One run of ``veilseg train``.

    Attributes
    ----------
    data : Data
    scheme : str
    steps : int
        Its own; those of what it goes on from come before.
    seed : int
    start : Run or None
        What it goes on from; None: it begins with nothing.
    """

    data: Data
    scheme: str
    steps: int
    seed: int
    start: "Run | None" = None

    @property
    def keyed(self) -> bool:
        """Whether sites need a consortium key."""
        return self.scheme == "encoding"

    @property
    def name(self) -> str:
        """As its bundle is called."""
        before = "" if self.start is None else f"{self.start.steps}+"
        return f"{self.data.name}-{self.scheme}-{self.seed}-{before}{self.steps}"

    def defined(self, data_sha256: str, key: str) -> dict[str, Any]:
        """What makes it this run and no other; ``key`` is the fingerprint of the sites' key."""
        return {
            "scheme": self.scheme,
            "steps": self.steps,
            "seed": self.seed,
            "fold": self.data.fold,
            "data_sha256": data_sha256,
            "recipe": json.loads(json.dumps(asdict(Recipe()))),
            "variant": f"key {key}" if self.keyed else _variant(self.scheme),
            "start": None if self.start is None else self.start.defined(data_sha256, key),
        }


def _variant(scheme: str) -> str:
    return variant_of(DEFAULT_STRENGTHS[scheme]) if scheme in DEFAULT_STRENGTHS else ""


@dataclass(frozen=True)
class Cell:
    """One measurement.

    Attributes
    ----------
    data : Data
    scheme : str
    seed : int
    steps : int
        Of the server's network in all.
    effort : Effort
        Of the attackers.
    """

    data: Data
    scheme: str
    seed: int
    steps: int
    effort: Effort

    @property
    def name(self) -> str:
        """By which it is asked for and stored."""
        return f"{self.data.name}-{self.scheme}-{self.seed}"

    @property
    def attacks(self) -> tuple[str, ...]:
        """What is run on its bundle."""
        return ON_ENCODINGS if self.scheme == "encoding" else ATTACKS

    @property
    def run(self) -> Run:
        """The training. Where raw images come first, plain goes on from them like the others."""
        start = self._start
        if start is None or self.scheme == "encoding":  # which nothing can be a start of
            return Run(self.data, self.scheme, self.steps, self.seed)
        return Run(self.data, self.scheme, self.steps - start.steps, self.seed, start)

    @property
    def beside(self) -> Run | None:
        """The network for raw images that it is timed beside; None for that one itself."""
        if self.scheme == PLAIN:
            return None
        return self._start or Run(self.data, PLAIN, self.steps, self.seed)

    @property
    def _start(self) -> Run | None:
        raw = min(self.steps - 1, round(self.steps * self.data.raw_steps / self.data.steps))
        return Run(self.data, PLAIN, raw, self.seed) if raw > 0 else None

    def defined(self, data_sha256: str) -> dict[str, Any]:
        """What makes its figures these and no others; a site's key is not part of it."""
        return {
            "dataset": self.data.folder,
            "scheme": self.scheme,
            "seed": self.seed,
            "steps": self.steps,
            "effort": self.effort,
            "attacks": list(self.attacks),
            "timed_images": TIMED_IMAGES,
            "run": self.run.defined(data_sha256, ""),
        }


def table(steps: int | None = None, effort: Effort | None = None) -> tuple[Cell, ...]:
    """Every cell in the order in which it is measured: one seed of everything comes first.

    Parameters
    ----------
    steps : int or None
        In place of each data set's own.
    effort : Effort or None
        None: attackers do all they can on the first seed, and less on the others.
    """
    found = []
    for seed in SEEDS:
        for data in ALL if seed == SEEDS[0] else REPEATED:
            schemes = (PLAIN, *PRIVATE, *(COMPARATORS if data in REPEATED else ()))
            spent: Effort = effort or ("full" if seed == SEEDS[0] else "quick")
            found += [Cell(data, scheme, seed, steps or data.steps, spent) for scheme in schemes]
    return tuple(found)


def chosen(cells: Sequence[Cell], patterns: Sequence[str]) -> tuple[Cell, ...]:
    """Those that are asked for by name or pattern (``cardiac-*-0``); all where nothing is.

    Raises
    ------
    WrongUsage
        If a pattern is of no cell.
    """
    for pattern in patterns:
        if not any(fnmatchcase(cell.name, pattern) for cell in cells):
            raise WrongUsage(f"--only {pattern}: no such cell; --list shows all")
    return tuple(
        cell
        for cell in cells
        if not patterns or any(fnmatchcase(cell.name, pattern) for pattern in patterns)
    )


def digest(definition: dict[str, Any]) -> str:
    """Short hash of a definition."""
    text = json.dumps(definition, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
