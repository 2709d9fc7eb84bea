"""The command itself: quick to start, and ``evaluate`` through the real halves."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import phantoms
import pytest

from veilseg import __version__
from veilseg.bundle import open_client_half, open_server_half, seal
from veilseg.datasets.layout import read_dataset, split_by_patient

COMMANDS = ["train", "evaluate", "serve", "segment", "demo", "site"]


def test_help_needs_nothing_heavy():
    code = "import sys, veilseg.cli.main; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    heavy = {"numpy", "scipy", "torch", "onnxruntime", "nibabel", "httpx", "fastapi", "sqlite3"}
    assert heavy.isdisjoint(loaded)
    # The positive control: what it does import is seen by the same search.
    assert "typer" in loaded


def test_help_and_version(veilseg: Callable):
    ended = veilseg("--help")
    assert ended.code == 0
    assert all(f"  {command} " in ended.out for command in COMMANDS)
    for command in (*COMMANDS, "site init", "site forget"):
        assert veilseg(*command.split(), "--help").code == 0
    assert veilseg("--version").out == f"{__version__}\n"


def test_the_installed_script():
    script = Path(sys.executable).with_name("veilseg")
    if not script.is_file():
        pytest.skip("the package is not installed beside this interpreter")
    ended = subprocess.run([script, "--version"], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{__version__}\n", "")


PATIENTS = ("anna", "bert", "carl", "dora", "dora")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return phantoms.make_dataset(tmp_path_factory.mktemp("data") / "phantoms", PATIENTS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Path:
    """A mixup bundle that says it was trained on the data set."""
    folder = phantoms.make_bundle(tmp_path_factory.mktemp("bundles") / "mixup", "mixup")
    client, server = open_client_half(folder).manifest, open_server_half(folder).manifest
    provenance = {"data_sha256": read_dataset(dataset).content_hash()}
    seal(folder, replace(client, provenance=provenance), server)
    return folder


@pytest.fixture
def evaluated(veilseg: Callable, tmp_path: Path) -> Callable[..., dict]:
    def run(*arguments: object) -> dict:
        file = tmp_path / "evaluation.json"
        ended = veilseg("evaluate", *arguments, "--json", file)
        assert ended.code == 0, ended.err
        return json.loads(file.read_text())

    return run


def test_evaluate_plain(evaluated: Callable, plain_bundle: Path, dataset: Path):
    found = evaluated(plain_bundle, dataset)
    # Phantoms tell their labels: an ideal server makes no mistake.
    perfect = {"dice": 1.0, "hd95_mm": 0.0, "nsd": 1.0}
    assert found["scheme"] == "plain"
    assert found["mean_dice"] == 1.0
    assert found["interval"] == [1.0, 1.0]
    assert found["per_class"] == {"shell": perfect, "core": perfect}
    assert found["variants"] == {"plain": 1.0}
    assert (found["n_cases"], found["n_patients"]) == (5, 4)
    assert (found["split"], found["dataset"]) == ("all", "phantoms")
    assert (found["references"], found["reference_patients"]) == ("synthetic", [])
    assert found["bundle_id"] == phantoms.bundle_id(plain_bundle)
    assert found["data_sha256"] == read_dataset(dataset).content_hash()
    assert [case["case"] for case in found["cases"]] == [f"case{i}" for i in range(5)]
    for case in found["cases"]:
        assert case["dice"] == {"shell": 1.0, "core": 1.0}
        assert case["hd95_mm"] == {"shell": 0.0, "core": 0.0}


def test_evaluate_mixup(evaluated: Callable, trained: Path, dataset: Path):
    found = evaluated(trained, dataset)
    # The phantoms' server cannot segment mixtures; both ways to unmix are the same algebra.
    assert set(found["variants"]) == {"learned", "algebraic"}
    assert found["mean_dice"] == found["variants"]["learned"]
    assert found["variants"]["learned"] == pytest.approx(found["variants"]["algebraic"], abs=1e-3)
    assert 0 <= found["mean_dice"] < 1
    low, high = found["interval"]
    assert low <= found["mean_dice"] <= high
    # A fixed key: the same figures in every run.
    assert evaluated(trained, dataset) == found


def test_evaluate_on_the_test_split(evaluated: Callable, trained: Path, dataset: Path):
    parts = split_by_patient(read_dataset(dataset))
    found = evaluated(trained, dataset, "--split", "test", "--references", dataset)
    assert [case["case"] for case in found["cases"]] == [case.name for case in parts.test]
    tested = {case.patient for case in parts.test}
    assert found["reference_patients"]
    assert tested.isdisjoint(found["reference_patients"])
    assert set(found["reference_patients"]) <= {case.patient for case in parts.train}
    assert (found["split"], found["references"]) == ("test", "phantoms")


def test_evaluate_with_references_of_others(
    evaluated: Callable, trained: Path, dataset: Path, tmp_path: Path
):
    others = phantoms.make_dataset(tmp_path / "others", ("erna", "fred"))
    found = evaluated(trained, dataset, "--references", others)
    assert found["reference_patients"] == ["erna", "fred"]


def test_evaluate_refusals(
    veilseg: Callable, trained: Path, plain_bundle: Path, dataset: Path, tmp_path: Path
):
    missing = tmp_path / "none"
    for arguments, code, reason in (
        ([plain_bundle, dataset, "--split", "test"], 3, "not the data phantom-plain was trained"),
        ([trained, dataset, "--split", "train"], 2, "--split train: choose test or all"),
        ([trained, dataset, "--references", dataset], 3, "is evaluated as well"),
        ([trained, missing], 3, f"{missing}: no dataset.json"),
        ([missing, dataset], 3, f"{missing}: no client half"),
        ([trained, dataset, "--json", missing / "x.json"], 3, "does not exist"),
    ):
        ended = veilseg("evaluate", *arguments)
        (line,) = [x for x in ended.err.splitlines() if not x.startswith("references: ")]
        assert (ended.code, ended.out) == (code, "")
        assert line.startswith("veilseg: ")
        assert reason in line
