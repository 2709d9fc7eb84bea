"""What is measured is not measured again, and nothing is lost or taken for something else."""

import json
from dataclasses import replace
from pathlib import Path

import made_up
import phantoms
import pytest

from veilseg.bench.evidence import kept as kept_module
from veilseg.bench.evidence import trained
from veilseg.bench.evidence.cells import table
from veilseg.bench.evidence.every import compared, measure_all, repeat
from veilseg.bench.evidence.kept import Kept
from veilseg.bench.evidence.trained import Places, finished
from veilseg.bundle import open_client_half
from veilseg.errors import BundleIntegrity, InvalidInput, WrongUsage

PLAIN, MIXUP, ENCODING = (
    next(cell for cell in table() if cell.name == f"hippocampus-{scheme}-0")
    for scheme in ("plain", "mixup", "encoding")
)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    phantoms.make_dataset(tmp_path / "data" / "hippocampus", ("a", "b", "c"))
    trained.content_hash.cache_clear()
    return Kept(tmp_path / "evidence.json", Places(tmp_path / "data", tmp_path / "work"))


class Bench:
    """Measures without training; what it fails at is told by name."""

    def __init__(self, kept: Kept, fails: str = "") -> None:
        self.kept, self.fails, self.measured, self.lines = kept, fails, [], []

    def __call__(self, cell, places, note):
        note("works")
        self.measured.append(cell.name)
        if cell.name == self.fails:
            raise BundleIntegrity("damaged")
        data = trained.content_hash(places.data / cell.data.folder)
        return made_up.cell(cell, digest=self.kept.wanted(cell), data_sha256=data)

    def run(self, *cells, again=False):
        quiet = lambda *_: None  # noqa: E731
        return measure_all(cells, self.kept, again, quiet, self.lines.append, self)


def test_a_finished_cell_is_not_measured_again(kept):
    bench = Bench(kept)
    assert bench.run(PLAIN, MIXUP) == 0
    assert [kept.state(cell) for cell in (PLAIN, MIXUP, ENCODING)] == ["measured"] * 2 + ["waiting"]
    assert bench.run(PLAIN, MIXUP) == 0
    assert bench.measured == [PLAIN.name, MIXUP.name]
    assert bench.run(MIXUP, again=True) == 0
    assert bench.measured[2:] == [MIXUP.name]
    document = json.loads(kept.file.read_text())
    assert (document["bench"], set(document["cells"])) == ("evidence", {PLAIN.name, MIXUP.name})
    assert "mixup" in document["comparisons"]["hippocampus"]["margins"]


def test_another_definition_or_other_data_are_measured_anew(kept):
    bench = Bench(kept)
    bench.run(PLAIN)
    shorter = replace(PLAIN, steps=7)
    assert kept.state(shorter) == "outdated"
    (kept.places.data / "hippocampus").rename(kept.places.data / "before")
    phantoms.make_dataset(kept.places.data / "hippocampus", ("a", "b", "c", "d"))
    trained.content_hash.cache_clear()
    assert kept.state(PLAIN) == "outdated"
    bench.run(PLAIN)
    assert bench.measured == [PLAIN.name] * 2
    assert kept.state(PLAIN) == "measured"


def test_one_that_fails_keeps_no_other_from_being_done(kept):
    bench = Bench(kept, fails=PLAIN.name)
    assert bench.run(PLAIN, MIXUP) == 1
    assert bench.lines == [f"{PLAIN.name}: damaged"]
    assert set(kept.cells()) == {MIXUP.name}


def test_figures_of_another_budget_are_not_replaced_unasked(kept):
    Bench(kept).run(PLAIN)
    kept.require_same_budget([PLAIN, MIXUP])
    with pytest.raises(WrongUsage, match="was measured with steps 4000, not 7: give another"):
        kept.require_same_budget([replace(PLAIN, steps=7)])
    with pytest.raises(WrongUsage, match="was measured with effort full, not quick"):
        kept.require_same_budget([replace(PLAIN, effort="quick")])


@pytest.mark.parametrize(
    "text", ["", "[]", '{"bench": "site"}', '{"bench":"evidence","cells":[1]}']
)
def test_a_file_of_something_else_is_refused(kept, text):
    kept.file.write_text(text)
    with pytest.raises(InvalidInput, match="no result of veilseg bench evidence"):
        kept.cells()


def bundle_for(cell, kept, folder, **changed):
    """A bundle that says it is of a cell's run."""
    told = kept.places.defined(cell.run) | {"batch": 2, "init": None} | changed
    told = {name: told[name] or None for name in ("fold", "variant")} | {
        name: value for name, value in told.items() if name not in ("fold", "variant", "start")
    }
    return phantoms.make_bundle(folder, cell.scheme, provenance=told)


def test_a_bundle_of_the_same_run_is_taken_wherever_it_lies(kept, tmp_path):
    places = replace(kept.places, elsewhere=(tmp_path / "models",))
    kept = replace(kept, places=places)
    bundle = bundle_for(MIXUP, kept, tmp_path / "models" / "shipped")
    assert [folder for folder, _ in finished(MIXUP.run, places)] == [bundle]
    assert kept.state(MIXUP) == "trained"
    assert kept.state(PLAIN) == "waiting"


@pytest.mark.parametrize(
    "changed",
    [
        {"steps": 3999},
        {"seed": 1},
        {"fold": "1/5"},
        {"data_sha256": "2" * 64},
        {"variant": "strength 0.5"},
        {"recipe": {"learning_rate": 1.0}},
        {"init": {"bundle_id": "of another"}},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_bundle_of_another_run_is_not_taken(kept, tmp_path, changed):
    places = replace(kept.places, elsewhere=(tmp_path / "models",))
    bundle_for(MIXUP, kept, tmp_path / "models" / "shipped", **changed)
    assert list(finished(MIXUP.run, places)) == []


@pytest.mark.parametrize(("batch", "taken"), [(2, 1), (1, 0)])
def test_share_of_cut_steps_matters_where_tiles_are_large(kept, tmp_path, batch, taken):
    recipe = kept.places.defined(MIXUP.run)["recipe"] | {"cropped_share": 0.75}
    places = replace(kept.places, elsewhere=(tmp_path / "models",))
    bundle_for(MIXUP, kept, tmp_path / "models" / "shipped", batch=batch, recipe=recipe)
    assert len(list(finished(MIXUP.run, places))) == taken


def test_what_it_went_on_from_has_to_be_the_same_run(kept, tmp_path):
    cell = replace(MIXUP, data=replace(MIXUP.data, raw_steps=1000))
    places = replace(kept.places, elsewhere=(tmp_path / "models",))
    start = replace(PLAIN, data=cell.data, steps=1000)
    assert cell.run.start is not None
    bundle_for(cell, kept, tmp_path / "models" / "mixup", init={"bundle_id": "0" * 64})
    assert list(finished(cell.run, places)) == []
    plain = tmp_path / "models" / "plain"
    told = kept.places.defined(cell.run.start) | {"batch": 2, "init": None, "fold": None}
    phantoms.make_bundle(plain, start.scheme, provenance=told | {"variant": None})
    of_start = open_client_half(plain).manifest.bundle_id
    bundle_for(cell, kept, tmp_path / "models" / "second", init={"bundle_id": of_start})
    assert [folder.name for folder, _ in finished(cell.run, places)] == ["second"]


def test_a_key_is_made_once_and_decides_whose_encodings_they_are(kept):
    assert kept.state(ENCODING) == "waiting"
    assert not kept.places.key_file.exists(), "looking makes no key"
    key = kept.places.key().fingerprint()
    assert kept.places.key().fingerprint() == key
    assert kept.places.defined(ENCODING.run)["variant"] == f"key {key}"
    assert kept.places.key_options(ENCODING.run) == ["--key", kept.places.key_file]
    assert kept.places.key_options(MIXUP.run) == []


def test_a_repetition_is_made_afresh_and_leaves_nothing_behind(kept, tmp_path):
    kept = replace(kept, places=replace(kept.places, elsewhere=(tmp_path / "models",)))
    Bench(kept).run(MIXUP)
    seen = []

    def measure(cell, places, note):
        seen.append(places)
        (places.work / "evidence").mkdir(parents=True)
        return made_up.cell(cell, dice=0.5)

    rows = repeat(MIXUP, kept, lambda told: None, measure)
    (places,) = seen
    assert places.elsewhere == ()
    assert places.work != kept.places.work
    assert not places.work.exists()
    assert [row["figure"] for row in rows] == ["dice", *made_up.NOTHING]
    assert [row["within"] for row in rows] == [False, True, True, True, True]
    assert kept.cells()[MIXUP.name]["accuracy"]["dice"]["value"] > 0.8, "the stored one stays"


def test_a_figure_without_an_interval_is_not_comparable():
    stored = made_up.cell(MIXUP)
    stored["accuracy"]["dice"]["interval"] = [None, None]
    stored["leakage"]["mask"]["by_default"] = None
    rows = compared(stored, made_up.cell(MIXUP))
    assert [row["figure"] for row in rows] == ["dice", "image", "identity", "membership"]
    assert [row["within"] for row in rows] == [None, True, True, True]


def test_only_what_was_measured_on_these_data_is_repeated(kept):
    with pytest.raises(InvalidInput, match="hippocampus-mixup-0 is not measured: nothing to"):
        repeat(MIXUP, kept, lambda told: None)
    kept_module.record.write(
        kept.file, {"bench": "evidence", "cells": {MIXUP.name: made_up.cell(MIXUP)}}
    )
    with pytest.raises(InvalidInput, match="not the data that hippocampus-mixup-0 was measured on"):
        repeat(MIXUP, kept, lambda told: None)
