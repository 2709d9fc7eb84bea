"""What a federation is, what it has done, and where that lies; without Flower and without torch.

A folder holds all of it: ``federation.json``, the averages ``average-ROUND.safetensors``, of which
0 is what all begin with, the record ``rounds.json``, and a folder for each site.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from veilseg.errors import InvalidInput
from veilseg.files import write_text_whole, written_whole

DEFINITION, ROUNDS = "federation.json", "rounds.json"
# Between a site's client and its trainer: files, and how a line begins that says they are there.
RECEIVED, TRAINED, DONE = "received.safetensors", "trained.safetensors", "done"

Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class Federation:
    """Who trains together, and how long.

    Attributes
    ----------
    data : dict
        Data set of each site, by its name. The first one's plan is that of all.
    data_sha256 : dict
        Content hash of each data set.
    cases : dict
        How many each site trains on; an average is weighted by it.
    steps : int
        Of all sites together, so that as many examples are seen as by whoever has all cases.
    rounds, seed : int
    plan : dict
        Fields of the plan that all sites prepare their cases by.
    """

    data: Mapping[str, str]
    data_sha256: Mapping[str, str]
    cases: Mapping[str, int]
    steps: int
    rounds: int
    seed: int
    plan: Mapping[str, Any]

    def __post_init__(self) -> None:
        fewest = min(self.steps_of(site) for site in self.data)
        if not 1 <= self.rounds <= fewest:
            raise InvalidInput(f"{self.rounds} rounds: a site has {fewest} steps in all")

    def steps_of(self, site: str) -> int:
        """Its part of the steps: every case is seen as often as every other."""
        return shares(self.cases, self.steps)[site]

    def bounds(self, site: str, number: int) -> tuple[int, int]:
        """Steps done before a round, which is counted from 1, and after it."""
        steps = self.steps_of(site)
        return steps * (number - 1) // self.rounds, steps * number // self.rounds

    def describe(self) -> dict[str, Any]:
        """What makes it another federation, wherever it lies."""
        names = ("data_sha256", "cases", "steps", "rounds", "seed")
        return {name: getattr(self, name) for name in names}

    def write(self, folder: Path) -> None:
        """Into its folder."""
        write_text_whole(folder / DEFINITION, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Federation":
        """From its folder."""
        return cls(**json.loads((folder / DEFINITION).read_text(encoding="utf-8")))


def shares(cases: Mapping[str, int], steps: int) -> dict[str, int]:
    """Steps of each site, in proportion to its cases; one at least."""
    every = sum(cases.values())
    return {site: max(1, round(steps * count / every)) for site, count in cases.items()}


def write_average(folder: Path, number: int, weights: Weights) -> None:
    """Whole or not at all."""
    with written_whole(folder / f"average-{number}.safetensors") as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in weights.items()}, temporary)


def read_average(folder: Path, number: int) -> Weights:
    """Weights by name, float32."""
    return load_file(folder / f"average-{number}.safetensors")


def rounds_done(folder: Path) -> list[dict[str, Any]]:
    """The record: of each round its seconds, and bytes and steps of each site."""
    file = folder / ROUNDS
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []


def record_round(folder: Path, weights: Weights, entry: dict[str, Any]) -> None:
    """Keep a round; the one before it is needed no more."""
    done = rounds_done(folder)
    number = len(done) + 1
    write_average(folder, number, weights)
    # After it: a round counts when its average is there.
    write_text_whole(folder / ROUNDS, json.dumps([*done, {"round": number, **entry}]) + "\n")
    (folder / f"average-{number - 1}.safetensors").unlink(missing_ok=True)
