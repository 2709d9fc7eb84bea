"""Several sites: the cut, what is done of it and what is told, without any training."""

import csv
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import phantoms
import pytest
from evidence import centers, jobs, plots, runs, sites, together
from evidence.places import Places, Result
from evidence.projects import Project
from figures import update
from PIL import Image
from records import leave_run

from veilseg.bundle import open_client_half
from veilseg.datasets.layout import read_dataset
from veilseg.datasets.split import split_by_patient
from veilseg.errors import InvalidDataset
from veilseg.schemes.encoding.key import ConsortiumKey

# North has fewer people than south, and each has two images of some.
PATIENTS = tuple(f"n{n // 2}" for n in range(14)) + tuple(f"s{n // 2}" for n in range(20))
TITLES = {"north": "North", "south": "South"}
DATA = jobs.Data("phantom", "phantoms", "Phantom", 3, "CC0")
JOB = sites.Centers(DATA, TITLES, lambda row: "north" if row["patient"][0] == "n" else "south", 3)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    phantoms.make_dataset(tmp_path / "data" / DATA.folder, PATIENTS)
    for module in (sites, together, plots):
        monkeypatch.setattr(module, "CENTERS", (JOB,))
    runs.content_hash.cache_clear()
    return Places(tmp_path, tmp_path / "data", tmp_path / "work")


def cases_of(places: Places, site: str, part: str = "") -> set[str]:
    """Names of the image files that a cut leads to."""
    folder = places.data / sites.folder(JOB, site, part)
    return {case.images[0].resolve().name for case in read_dataset(folder).cases}


def test_every_site_has_its_own_patients_and_all_train_on_the_same_cases(places):
    here = sites.at_sites(JOB, places)
    whole = {site: cases_of(here, site) for site in TITLES}
    assert len(whole["north"] | whole["south"]) == len(PATIENTS)
    assert not whole["north"] & whole["south"]
    trained, tested = (
        set.union(*(cases_of(here, site, part) for site in TITLES)) for part in ("train", "test")
    )
    for site in TITLES:
        split = split_by_patient(read_dataset(here.data / sites.folder(JOB, site)))
        for part, cases in (("train", split.train), ("test", split.test)):
            assert cases_of(here, site, part) == {one.images[0].resolve().name for one in cases}
    pooled = split_by_patient(read_dataset(here.data / sites.folder(JOB, sites.POOLED)))
    assert {case.images[0].resolve().name for case in pooled.train} == trained
    assert not trained & tested


def test_a_cut_stays_until_who_is_where_changes(places):
    here = sites.at_sites(JOB, places)
    table = here.data / sites.folder(JOB, "north") / sites.TABLE
    before = table.stat().st_mtime_ns
    sites.at_sites(JOB, places)
    assert table.stat().st_mtime_ns == before
    fewer = replace(JOB, site_of=lambda row: "north" if row["patient"] < "n6" else "south")
    sites.at_sites(fewer, places)
    assert "n6" not in table.read_text()
    with pytest.raises(InvalidDataset, match="no case of north"):
        sites.at_sites(replace(JOB, site_of=lambda row: "south"), places)


def test_no_pooled_split_is_told(places):
    source = read_dataset(places.data / DATA.folder)
    split = split_by_patient(source)
    # A test that is far smaller than a fifth: someone who trains would be held out.
    with pytest.raises(InvalidDataset, match="no pooled split"):
        sites.pooled(source, [replace(split, validation=(), test=split.test[-1:])])


@pytest.mark.parametrize("job", sites.CENTERS, ids=lambda job: job.name)
def test_real_sites_are_cut_as_documents_say(shared_data, tmp_path, job):
    here = sites.at_sites(job, Places(tmp_path, shared_data, tmp_path))
    with (shared_data / job.data.folder / "cases.csv").open(newline="") as stream:
        patients = {row["case"]: row["patient"] for row in csv.DictReader(stream)}
    seen: dict[str, str] = {}
    for site in job.sites:
        for case in read_dataset(here.data / sites.folder(job, site)).cases:
            assert seen.setdefault(patients[case.name], site) == site
    assert set(seen.values()) == set(job.sites)


def test_all_ways_differ_in_data_and_scheme_alone():
    for job in sites.CENTERS:
        ways = centers.ways(job)
        assert {way.name for way in ways} == {*job.sites, *together.SCHEMES, sites.POOLED}
        assert {(one.training.steps, one.training.seed) for one in ways} == {(job.steps, job.seed)}
        for way in ways:
            first = way.training.data.folder == sites.folder(job, job.sites[0])
            assert first == (way.together or way.name == job.sites[0])
            assert way.training.scheme == (way.name if way.together else "plain")


@pytest.fixture
def commands(places: Places, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done, in a few words; networks are phantoms, evaluations made up."""
    done: list[str] = []

    def train(*command: object, **options: object) -> str:
        words = list(map(str, command))[3:]
        data, out = Path(words[1]), Path(words[words.index("--out") + 1])
        done.append(f"train {out.name}")
        record = leave_run(out, words, data)
        told = record | {"init": {"bundle_id": ""}}
        phantoms.make_bundle(out, record["scheme"], name=out.name, provenance=told)
        (out / "README.md").write_text("card")
        return ""

    def fit_together(project: Project, out: Path) -> Result:
        done.append(f"fit {out.name}")
        first = open_client_half(project.bundle).manifest
        known = {"name": out.name, "provenance": first.provenance}
        phantoms.make_bundle(out, first.scheme, **known)
        cost = {"cases": 4, "pairs": 32, "bytes": 2_000_000, "seconds": 8.0}
        fitted = {"seconds": 60.0, "cores": 2, "sites": dict.fromkeys(TITLES, cost)}
        return {**project.definition(), **fitted}

    def evaluate(*command: object, **options: object) -> str:
        words = list(map(str, command))[3:]
        bundle, data = Path(words[1]), read_dataset(Path(words[2]))
        done.append(f"evaluate {bundle.name} on {data.folder.name}")
        manifest = open_client_half(bundle).manifest
        way = bundle.name.removeprefix(f"{JOB.name}-")
        site = data.folder.name.removeprefix(f"{JOB.name}-").removesuffix("-test")
        cases = [
            {"case": case.name, "patient": case.patient, "dice": {"blob": SCORES[way, site]}}
            for case in data.cases
        ]
        found = {
            "bundle_id": manifest.bundle_id,
            "scheme": manifest.scheme,
            "provenance": manifest.provenance,
            "dataset": data.name,
            "data_sha256": data.content_hash(),
            "references": "synthetic",
            "cases": cases,
        }
        Path(words[-1]).write_text(json.dumps(found))
        return ""

    monkeypatch.setattr(runs, "run", train)
    monkeypatch.setattr(centers, "run", evaluate)
    monkeypatch.setattr(centers, "fit_together", fit_together)
    return done


# Who trains alone is better at home; south is the better teacher; together is between it and all.
SCORES = {
    **{("north", "north"): 0.8, ("north", "south"): 0.5},
    **{("south", "north"): 0.7, ("south", "south"): 0.8},
    **{("encoding", "north"): 0.75, ("encoding", "south"): 0.78},
    **{("mixup", "north"): 0.65, ("mixup", "south"): 0.7},
    **{("pooled", "north"): 0.82, ("pooled", "south"): 0.81},
}


def test_everything_is_done_once(places, commands):
    assert centers.how_far(JOB, places) == "waiting"
    centers.collaborate(JOB, places, again=False)
    assert len(commands) == len(set(commands)) == 5 + 2 + 2 * 5
    assert centers.how_far(JOB, places) == "published"
    # Nor where the work folder is gone: what is published says itself what run it is of.
    for path in places.work.glob(f"{JOB.name}-*"):
        shutil.rmtree(path)
    centers.collaborate(JOB, places, again=False)
    assert len(commands) == 17
    longer = replace(JOB, steps=4)
    assert centers.how_far(longer, places) == "waiting"
    assert centers.how_far(replace(JOB, views=2), places) == "6 of 10 evaluated"
    # The key stays where the networks were made: what is published of them is as good elsewhere,
    # and with another key they are other networks.
    key = places.work / runs.KEY_FILE
    key.unlink()
    assert centers.how_far(JOB, places) == "published"
    ConsortiumKey.new().write(key)
    assert centers.how_far(JOB, places) == "8 of 10 evaluated"
    elsewhere = replace(places, data=places.work)
    assert centers.how_far(JOB, elsewhere) == "its data are not there"


def test_what_was_broken_off_goes_on(places, commands, monkeypatch):
    evaluate = centers.run

    def broken(*command: object) -> str:
        if str(command[-3]).endswith("south-test"):
            raise subprocess.CalledProcessError(1, list(map(str, command)))
        return evaluate(*command)

    monkeypatch.setattr(centers, "run", broken)
    with pytest.raises(subprocess.CalledProcessError):
        centers.collaborate(JOB, places, again=False)
    assert centers.how_far(JOB, places) == "1 of 10 evaluated"
    assert places.load(together.RESULT) is None
    monkeypatch.setattr(centers, "run", evaluate)
    centers.collaborate(JOB, places, again=False)
    assert commands.count(f"train {JOB.name}-north") == 1
    assert commands.count(f"evaluate {JOB.name}-north on {JOB.name}-north-test") == 1


def test_a_network_that_was_trained_anew_is_evaluated_everywhere(places, commands):
    centers.collaborate(JOB, places, again=False)
    bundle = places.bundle(f"{JOB.name}-pooled")
    provenance = open_client_half(bundle).manifest.provenance
    (places.results / f"{together.part_name(JOB, 'pooled', 'south')}.json").unlink()
    for part in ("client", "server"):
        shutil.rmtree(bundle / part)
    phantoms.make_bundle(bundle, "plain", name=bundle.name, provenance=provenance, raw_scale=7)
    del commands[:]
    centers.collaborate(JOB, places, again=False)
    assert commands == [
        f"evaluate {JOB.name}-pooled on {JOB.name}-{site}-test" for site in ("north", "south")
    ]


def test_the_best_site_alone_is_the_one_over_which_the_least_is_gained(places, commands):
    centers.collaborate(JOB, places, again=False)
    entry = places.load(together.RESULT)["sets"][JOB.name]
    gained = entry["schemes"]["encoding"]
    # Each on the other's patients alone: 0.78 − 0.5 and 0.75 − 0.7.
    assert gained["over"]["north"]["difference"] == pytest.approx(0.28)
    assert gained["over"]["south"]["difference"] == pytest.approx(0.05)
    assert gained["best_site"] == "south"
    assert gained["over"]["south"]["n_patients"] == entry["sites"]["north"]["test"]["patients"]
    assert -0.07 < gained["to_pooled"]["difference"] < -0.03
    assert gained["fit"]["sites"]["north"]["bytes"] == 2_000_000
    assert entry["sources"]["encoding"]["steps"] == JOB.steps


def test_blocks_state_the_figures(places, commands):
    assert together.gains(places) == "Phantom: not measured yet: `make claims`."
    centers.collaborate(JOB, places, again=False)
    table = together.dice_by_site(places)
    assert (
        "| raw images of South alone | 0.700 (0.700 to 0.700) | 0.800 (0.800 to 0.800) |" in table
    )
    gains = together.gains(places)
    assert "+0.050 (+0.050 to +0.050) | -0.050 (-0.050 to -0.050) |" in gains
    assert "| encoded pairs of all sites: North | 4 | 8 | 0.50 | 2 | 2.00 |" in together.cost(
        places
    )
    assert "the fit, 3 steps on 2 cores | 8 |  |  | 4 | 7.50 |" in together.cost(places)
    assert "| North | 8 of 4 patients | 4 of 2 patients | 0 | 14 | 0 |" in together.sites(places)
    goal = {what.partition(": ")[2]: enough for what, _, _, enough in together.goals(places)}
    assert list(goal.values()) == [True, False]


def test_the_plot_shows_what_was_measured(places, commands):
    centers.collaborate(JOB, places, again=False)
    update(places)
    assert plots.recorded(places, "centers") == places.digest((together.RESULT,))
    with Image.open(places.images / "centers.png") as image:
        assert len(set(image.convert("L").resize((64, 40)).tobytes())) > 3, "nothing is drawn"
