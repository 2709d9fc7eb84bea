"""Federated averaging: what sites owe, what is kept, done once and told; without any training."""

import json
import shutil
from pathlib import Path

import numpy as np
import phantoms
import pytest
from evidence import federated, jobs, runs, sites, versus
from evidence.places import Places
from evidence.together import part_name
from federated.federation import (
    Federation,
    read_average,
    record_round,
    rounds_done,
    write_average,
)

from veilseg.datasets.layout import read_dataset
from veilseg.errors import InvalidInput, MissingDependency

PATIENTS = tuple(f"n{n // 2}" for n in range(14)) + tuple(f"s{n // 2}" for n in range(20))
TITLES = {"north": "North", "south": "South"}
DATA = jobs.Data("phantom", "phantoms", "Phantom", 40, "CC0")
JOB = sites.Centers(DATA, TITLES, lambda row: "north" if row["patient"][0] == "n" else "south", 40)
TOGETHER = Federation({"a": "/a", "b": "/b"}, {"a": "1", "b": "2"}, {"a": 5, "b": 10}, 31, 4, 0, {})


def test_every_case_is_seen_as_often_as_every_other():
    assert (TOGETHER.steps_of("a"), TOGETHER.steps_of("b")) == (10, 21)
    for site in ("a", "b"):
        bounds = [TOGETHER.bounds(site, number) for number in range(1, 5)]
        # Nothing is left out and nothing done twice.
        assert [end for _, end in bounds[:-1]] == [start for start, _ in bounds[1:]]
        assert (bounds[0][0], bounds[-1][1]) == (0, TOGETHER.steps_of(site))
        assert all(start < end for start, end in bounds)


@pytest.mark.parametrize("rounds", [0, 11])
def test_a_round_has_a_step_at_every_site(rounds):
    with pytest.raises(InvalidInput, match=f"{rounds} rounds: a site has 10 steps in all"):
        Federation(**{**vars(TOGETHER), "rounds": rounds})


def test_a_round_counts_when_its_average_is_kept(tmp_path):
    TOGETHER.write(tmp_path)
    assert Federation.read(tmp_path) == TOGETHER
    write_average(tmp_path, 0, {"w": np.zeros(3, np.float32)})
    for number in (1, 2):
        entry = {"seconds": 1.5, "sites": {"a": {"cases": 5, "received": 12, "sent": 10}}}
        record_round(tmp_path, {"w": np.full(3, number, np.float32)}, entry)
    assert [one["round"] for one in rounds_done(tmp_path)] == [1, 2]
    np.testing.assert_array_equal(read_average(tmp_path, 2)["w"], 2)
    assert len(list(tmp_path.glob("average-*"))) == 1
    expected = {"seconds": 3.0, "sites": {"a": {"received": 24, "sent": 20}}}
    assert federated.cost(rounds_done(tmp_path)) == expected


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    phantoms.make_dataset(tmp_path / "data" / DATA.folder, PATIENTS)
    monkeypatch.setattr(versus, "CENTERS", (JOB,))
    runs.content_hash.cache_clear()
    return Places(tmp_path, tmp_path / "data", tmp_path / "work")


@pytest.fixture
def done(places: Places, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done, in a few words; rounds and evaluations are made up."""
    words_of: list[str] = []

    def run(*command: object, cwd: Path | None = None) -> str:
        words = list(map(str, command))[3:]
        if words[0] == "evaluate":
            bundle, data = Path(words[1]).name, read_dataset(Path(words[2]))
            words_of.append(f"evaluate {bundle} on {data.folder.name}")
            Path(words[-1]).write_text(json.dumps(evaluation(data, 0.75)))
        elif words[0] == "begin":
            told = json.loads(words[words.index("--told") + 1])
            folder = Path(words[1])
            folder.mkdir(parents=True)
            Federation(**told, plan={"tile_shape": [16, 16, 16]}).write(folder)
            write_average(folder, 0, {"w": np.zeros(1, np.float32)})
            words_of.append(f"begin {folder.name}")
        else:
            Path(words[words.index("--out") + 1]).mkdir(parents=True)
            words_of.append(f"finish {Path(words[1]).name}")
        return ""

    def rounds(at: Path, names: list[str]) -> None:
        words_of.append(f"rounds {at.name}")
        for _ in range(len(rounds_done(at)), Federation.read(at).rounds):
            each = {site: {"cases": 4, "received": 4_000_000, "sent": 2_000_000} for site in names}
            entry = {"seconds": 2.0, "sites": each}
            record_round(at, {"w": np.zeros(1, np.float32)}, entry)

    monkeypatch.setattr(federated, "run", run)
    monkeypatch.setattr(federated, "_rounds", rounds)
    monkeypatch.setattr(federated, "train", lambda training, _: words_of.append("local training"))
    monkeypatch.setattr(federated, "largest_difference", lambda *_: 1e-7)
    return words_of


def evaluation(data, score: float) -> dict:
    cases = [
        {"case": case.name, "patient": case.patient, "dice": {"blob": score}} for case in data.cases
    ]
    about = {"dataset": "phantoms", "data_sha256": data.content_hash(), "bundle_id": "b" * 64}
    return {**about, "mean_dice": score, "cases": cases}


def test_everything_is_done_once(places, done):
    assert federated.how_far(JOB, places) == "waiting"
    federated.federate(JOB, places, again=False)
    name = f"{JOB.name}-fedavg"
    others = ("control", "local")
    assert [one for one in done if name in one and not any(o in one for o in others)] == [
        f"begin {name}",
        f"rounds {name}",
        f"finish {name}",
        *(f"evaluate {name} on {JOB.name}-{site}-test" for site in TITLES),
    ]
    assert federated.how_far(JOB, places) == "measured"
    before = len(done)
    federated.federate(JOB, places, again=False)
    # Nor where the work folder is gone.
    shutil.rmtree(places.work / "federations")
    federated.federate(JOB, places, again=False)
    assert len(done) == before
    federated.federate(sites.replace(JOB, steps=60), places, again=False)
    assert done[before:].count(f"begin {name}") == 1


def test_rounds_that_were_broken_off_go_on(places, done, monkeypatch):
    whole = federated._rounds

    def broken(at: Path, names: list[str]) -> None:
        if at.name.endswith("control"):
            return whole(at, names)
        each = {site: {"cases": 4, "received": 4_000_000, "sent": 2_000_000} for site in names}
        record_round(at, {"w": np.zeros(1, np.float32)}, {"seconds": 2.0, "sites": each})
        raise InvalidInput("killed")

    monkeypatch.setattr(federated, "_rounds", broken)
    with pytest.raises(InvalidInput, match="killed"):
        federated.federate(JOB, places, again=False)
    assert federated.how_far(JOB, places) == "1 of 15 rounds"
    monkeypatch.setattr(federated, "_rounds", whole)
    federated.federate(JOB, places, again=False)
    assert done.count(f"begin {JOB.name}-fedavg") == 1
    fit = places.load("fedavg-phantom")["fits"]["fedavg"]
    assert fit["seconds"] == 2.0 * fit["of"]["rounds"]


def test_without_flower_it_says_so_in_one_line(places, tmp_path, monkeypatch):
    monkeypatch.setattr(federated, "ENVIRONMENT", tmp_path / "flower")
    with pytest.raises(MissingDependency, match="no environment flower: make bench"):
        federated._rounds(tmp_path, ["north"])


def test_it_is_compared_with_what_was_measured_on_the_same_data(places, done):
    assert versus.accuracy(places) == "Phantom: not measured yet: `make claims`."
    here = sites.at_sites(JOB, places)
    scores = {"encoding": 0.7, "pooled": 0.8}
    for way, score in scores.items():
        for site in TITLES:
            data = read_dataset(here.data / sites.folder(JOB, site, "test"))
            cost = {"cases": 4, "bytes": 3_000_000}
            fit = {"fit": {"steps": 40, "seconds": None, "sites": dict.fromkeys(TITLES, cost)}}
            found = {**evaluation(data, score), **(fit if way == "encoding" else {})}
            places.store(part_name(JOB, way, site), found)
    federated.federate(JOB, places, again=False)
    shown = versus.accuracy(places)
    assert "| encoded pairs of all sites | 0.700 (0.700 to 0.700) |" in shown
    assert "| 0.700 | +0.050 (+0.050 to +0.050) |" in shown
    assert "| 0.800 | -0.050 (-0.050 to -0.050) |" in shown
    assert "| mixed pairs of all sites | – | – | not measured yet |  |" in shown
    shown = versus.cost(places)
    # 15 rounds, for north has so many steps; 2 and 4 MB for each of two sites and each round.
    assert "| federated averaging | 15 | 60 | 120 | 40 | 640 | 30 |" in shown
    assert "| encoded pairs of all sites | 1 | 6 | – | 40 | – | – |" in shown
    shown = versus.control(places)
    assert "Phantom, North alone, 2 steps in 2 rounds: Dice 0.7500, by its own training" in shown
    assert "as it has to be; weights differ by at most 1e-07." in shown
    found = places.load("fedavg-phantom")
    found["control"]["dice"]["averaged"] = 0.74
    places.store("fedavg-phantom", found)
    assert "no fair comparison" in versus.control(places)
