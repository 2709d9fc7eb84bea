"""docs/experiments.md says what results/experiments.json holds, and the script can add to it."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import experiments
import phantoms
import pytest
import torch
from evidence.blocks import BLOCK
from evidence.places import Places, default_places
from tuning import blocks
from tuning.networks import SEGMENTERS
from tuning.table import TABLE, changed, settings
from tuning.unmixers import unmixer

PLACES = default_places()
PAGE = PLACES.root / "docs" / "experiments.md"
ROWS = blocks.results(PLACES)
KNOWN = experiments.experiments()


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path, tmp_path / "data", tmp_path / "work")


def row(name: str, *validated: tuple[str, float], commit: str = "a" * 40) -> dict:
    """A row with a Dice for each set of mixtures; the average of the weights is 0.01 worse."""
    return experiments.row_of(
        KNOWN[name],
        {
            "parameters": 1,
            "segmenter_multiply_adds_per_voxel": 1,
            "commit": commit,
            "validations": [
                {
                    "mixtures_sha256": mixtures,
                    **{"n": 6, "n_cases": 2, "n_patients": 1},
                    "dice": {"learned": {"mean": dice}, "algebraic": {"mean": dice / 2}},
                    "dice_of_average": {"learned": {"mean": dice - 0.01}},
                }
                for mixtures, dice in validated
            ],
        },
    )


def test_page_says_what_results_hold():
    text = PAGE.read_text(encoding="utf-8")
    assert text == blocks.rendered(text, PLACES), "run python scripts/experiments.py --render"


def test_page_shows_every_table():
    shown = [match[2] for match in BLOCK.finditer(PAGE.read_text(encoding="utf-8"))]
    assert sorted(shown) == sorted(blocks.BLOCKS)


@pytest.mark.parametrize("name", ROWS)
def test_row_is_the_experiment_of_the_table(name):
    found, one = ROWS[name], KNOWN[name]
    assert {key: found[key] for key in settings(one)} == settings(one)
    assert found["changed"] == (changed(one, KNOWN[one.against]) if one.against else {})
    assert re.fullmatch(r"[0-9a-f]{40}( \(modified\))?", found["commit"])
    assert found["harness"] in {"prototype", "script"}
    for validated in found["validations"]:
        assert validated["n_cases"] < validated["n"] or one.scheme == "plain"
        assert re.fullmatch(r"[0-9a-f]{64}", validated["mixtures_sha256"])


@pytest.mark.parametrize("name", [name for name in ROWS if ROWS[name]["data"] == "hippocampus"])
def test_networks_have_as_many_weights_as_those_that_were_trained(name):
    with torch.device("meta"):
        trained = [SEGMENTERS[ROWS[name]["segmenter"]](3, 1, 3)]
        private = ROWS[name]["scheme"] == "mixup"
        if private and (one := unmixer(ROWS[name]["unmixer"], 3, 1, 3)) is not None:
            trained.append(one)
    weights = sum(weight.numel() for network in trained for weight in network.parameters())
    assert weights == ROWS[name]["parameters"]


def test_list_names_every_experiment(capsys):
    experiments.main(["--list"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(KNOWN)
    for line in lines:
        assert (blocks.NOT_YET in line) == (line.split()[0] not in ROWS)


def test_unknown_and_measured_experiments_are_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        experiments.main(["nonsense"])
    assert "no experiment nonsense" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        experiments.main(["full-16"])
    assert "full-16 is measured: --again replaces its row" in capsys.readouterr().err


def test_rows_are_kept_in_the_order_of_the_table(places):
    places.results.mkdir()
    for name in ("muon", "full-16", "synthetic"):
        experiments.store(row(name, ("x", 0.5)), places)
    experiments.store(row("muon", ("x", 0.75)), places)
    found = blocks.results(places)
    assert list(found) == ["full-16", "synthetic", "muon"]
    assert blocks.mean_dice(found["muon"]["validations"][0]) == 0.75


def test_every_setting_that_differs_is_named():
    names = changed(KNOWN["raw-32"], KNOWN["full-16"])
    assert names == {"segmenter": ["full-16", "raw-32"], "steps": [480, 800]}
    same = replace(KNOWN["raw-32"], segmenter="full-16", steps=480)
    assert changed(same, KNOWN["full-16"]) == {}


def test_difference_is_on_the_same_mixtures():
    ours = row("synthetic", ("new", 0.8), commit="b" * 40)
    found = blocks.table("examples", {"batch-2": row("batch-2", ("new", 0.75)), "synthetic": ours})
    assert "| 0.800 | +0.050 | 0.400 |" in found
    assert "law of references aaaaaaa → bbbbbbb" in found
    both = row("batch-2", ("old", 0.5), ("new", 0.75))
    found = blocks.table("examples", {"batch-2": both, "synthetic": ours})
    assert "+0.050 (to 0.750 on these mixtures)" in found
    found = blocks.table("examples", {"batch-2": row("batch-2", ("old", 0.5)), "synthetic": ours})
    assert "| 0.800 | other mixtures |" in found


@pytest.mark.parametrize("group", TABLE)
def test_table_without_results_says_so(group):
    assert blocks.table(group, {}).count(blocks.NOT_YET) == len(TABLE[group])


def test_average_is_that_of_all_runs():
    rows = {name: row(name, ("x", 0.5)) for name in ("muon", "synthetic")}
    assert "over 2 runs: -0.0100 to -0.0100, mean -0.0100" in blocks.average(rows)


def test_experiments_run(tmp_path):
    """Two steps on phantoms, in a process of its own: this one may have OpenVINO's threads."""
    phantoms.make_dataset(tmp_path / "hippocampus", ("p", "q", "r", "s", "t"))
    work = tmp_path / "work"
    names = ["batch-2", "log-answer", "symmetric", "smoothing", "deep", "curriculum", "plain"]
    names.append("references-2")
    script = PLACES.root / "scripts" / "experiments.py"
    before = (PLACES.results / "experiments.json").read_bytes()
    done = subprocess.run(
        [sys.executable, script, *names, "--steps", "2"],
        env={**os.environ, "VEILSEG_DATA": str(tmp_path), "VEILSEG_WORK": str(work)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["name"] for one in rows] == names
    for one in rows:
        (validated,) = one["validations"]
        kinds = {"plain"} if one["scheme"] == "plain" else {"learned", "algebraic"}
        assert set(validated["dice"]) == set(validated["dice_of_average"]) == kinds
        assert validated["n"] == validated["n_cases"] * (1 if one["scheme"] == "plain" else 3)
        assert one["steps"] == 2
        assert one["loss"] > 0
    # One set of examples for two experiments that differ in nothing else; a trial keeps no row.
    assert (
        sorted(len(list(folder.iterdir())) for folder in (work / "experiments").iterdir())
        == [4] * 4
    )
    assert (PLACES.results / "experiments.json").read_bytes() == before
