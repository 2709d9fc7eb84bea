"""What a site trains in rounds with others: the package's own training, nothing else."""

import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import phantoms
import pytest

from veilseg.datasets.layout import read_dataset
from veilseg.datasets.split import split_by_patient
from veilseg.schemes.trainable import TRAINABLE
from veilseg.training import train as training
from veilseg.training.recipe import Recipe

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from federated.federation import Federation, Weights
from federated.site import Site, begun, weights_of

STEPS, ROUNDS, SEED = 5, 2, 3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("federated") / "data"
    return phantoms.make_dataset(folder, ("p", "q", "r", "s", "t"))


def start(data: Path) -> tuple[Federation, Weights]:
    dataset = read_dataset(data)
    plan, network = begun(dataset, SEED)
    cases = {"alone": len(split_by_patient(dataset).train)}
    told = {"alone": str(data)}, {"alone": dataset.content_hash()}
    return Federation(*told, cases, STEPS, ROUNDS, SEED, asdict(plan)), weights_of(network)


def largest(one: Weights, other: Weights) -> float:
    assert one.keys() == other.keys()
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def test_one_site_alone_trains_as_veilseg_train_does(data, tmp_path, monkeypatch):
    federation, first = start(data)
    site = Site(federation, "alone", tmp_path / "site")
    weights = first
    for number in range(1, ROUNDS + 1):
        weights = site.take(number, weights)
    # A round whose weights did not arrive is taken anew, by a site that was started anew.
    again = Site(federation, "alone", tmp_path / "site")
    once = Site(federation, "alone", tmp_path / "other").take(1, first)
    assert largest(again.take(2, once), weights) == 0
    found: Weights = {}

    def kept(scheme, *_: object) -> float:
        found.update(weights_of(scheme))
        return 0.5

    monkeypatch.setattr(training, "validation_dice", kept)
    training.train(
        *(data, TRAINABLE["plain"], tmp_path / "bundle"),
        **{"steps": STEPS, "minutes": None, "seed": SEED, "resume": False, "init": None},
        **{"fold": None, "recipe": Recipe(), "licence": "CC0", "report": lambda *_: None},
    )
    # The same steps on the same examples: no rounding sets them apart.
    assert largest(weights, found) == 0
    # A control of the control: it would not be 0 of other weights.
    assert largest(first, found) > 1e-3


def test_a_round_goes_on_from_the_average_and_not_from_its_own_weights(data, tmp_path):
    federation, first = start(data)
    site = Site(federation, "alone", tmp_path / "site")
    own = site.take(1, first)
    average = {name: np.zeros_like(array) + 0.01 for name, array in own.items()}
    moved = site.take(2, average)
    assert largest(moved, average) < largest(moved, own)
