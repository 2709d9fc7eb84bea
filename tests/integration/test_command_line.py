"""The command itself: quick to start, and ``evaluate`` through the real halves."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import phantoms
import pytest

from veilseg import __version__
from veilseg.bundle import open_client_half, open_server_half, seal
from veilseg.datasets.layout import read_dataset
from veilseg.datasets.split import Fold, split_by_patient

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
def make_trained(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Callable[..., Path]:
    """Mixup bundles that say they were trained on the data set."""

    def build(provenance: dict[str, object] | None = None, **settings: object) -> Path:
        folder = phantoms.make_bundle(tmp_path_factory.mktemp("bundles") / "m", "mixup", **settings)
        client, server = open_client_half(folder).manifest, open_server_half(folder).manifest
        stated = {"data_sha256": read_dataset(dataset).content_hash(), **(provenance or {})}
        seal(folder, replace(client, provenance=stated), server)
        return folder

    return build


@pytest.fixture(scope="module")
def trained(make_trained: Callable[..., Path]) -> Path:
    return make_trained(coefficient_range=[0.4, 0.6])


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
    assert (found["unit"], found["mixtures"]) == ("mm", 1)
    assert (found["fold"], found["coefficient"]) == (None, None)
    # All right, at a confidence of 1 that FP16 and blending leave.
    assert found["calibration"]["ece"] < 0.01
    assert found["calibration"]["error_auroc"] is None
    assert sum(entry["voxels"] for entry in found["calibration"]["bins"]) > 1000
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
    # A network that is at a loss with mixtures, and sure of it.
    assert found["calibration"]["ece"] > 0.05
    assert 0 <= found["calibration"]["error_auroc"] <= 1
    assert found["coefficient"] == 0.5
    # A fixed key: the same figures in every run.
    assert evaluated(trained, dataset) == found


def test_evaluate_on_the_test_split(evaluated: Callable, trained: Path, dataset: Path):
    parts = split_by_patient(read_dataset(dataset))
    found = evaluated(trained, dataset, "--split", "test", "--references", dataset)
    assert [case["case"] for case in found["cases"]] == [case.name for case in parts.test]
    tested = {case.patient for case in parts.test}
    assert found["reference_patients"]
    assert tested.isdisjoint(found["reference_patients"])
    assert set(found["reference_patients"]) <= {case.patient for case in parts.validation}
    assert (found["split"], found["references"]) == ("test", "phantoms")


@pytest.mark.parametrize("split", ["test", "validation"])
def test_evaluate_on_the_fold_that_the_bundle_records(
    evaluated: Callable, make_trained: Callable[..., Path], dataset: Path, split: str
):
    found = evaluated(make_trained({"fold": "1/4"}), dataset, "--split", split)
    parts = split_by_patient(read_dataset(dataset), Fold(1, 4))
    wanted = getattr(parts, split)
    assert [case["case"] for case in found["cases"]] == [case.name for case in wanted]
    assert (found["fold"], found["split"]) == ("1/4", split)
    # The positive control: without a fold it would have been others.
    others = getattr(split_by_patient(read_dataset(dataset)), split)
    assert {case.name for case in wanted} != {case.name for case in others}


def test_nobody_is_evaluated_whom_an_earlier_fold_has_seen(
    veilseg: Callable, make_trained: Callable[..., Path], dataset: Path
):
    data = read_dataset(dataset).content_hash()
    first = {"data_sha256": data, "fold": "2/4", "init": None}
    between = {"data_sha256": "0" * 64, "init": {"bundle_id": "a", "provenance": first}}
    start = {"bundle_id": "b", "provenance": between}
    for fold, code in (("1/4", 3), ("2/4", 0)):
        bundle = make_trained({"fold": fold, "init": start})
        ended = veilseg("evaluate", bundle, dataset, "--split", "test")
        assert ended.code == code
        assert ("started from a bundle of another fold" in ended.err) == (code == 3)
    assert veilseg("evaluate", make_trained({"init": None}), dataset, "--split", "test").code == 0


def test_nobody_is_taken_for_unseen_after_patients_got_other_names(
    veilseg: Callable, make_trained: Callable[..., Path], dataset: Path, tmp_path: Path
):
    """The files are the same, but the split goes by patients: it would hold out others."""
    known = read_dataset(dataset).patients_hash()
    bundle = make_trained({"patients_sha256": known, "init": None})
    assert veilseg("evaluate", bundle, dataset, "--split", "test").code == 0
    renamed = tmp_path / "renamed"
    shutil.copytree(dataset, renamed)
    table = renamed / "cases.csv"
    table.write_text(table.read_text().replace(",anna", ",zoe"))
    ended = veilseg("evaluate", bundle, renamed, "--split", "test")
    assert ended.code == 3
    assert "cases.csv: names other patients than when phantom-mixup was trained" in ended.err
    assert veilseg("evaluate", bundle, renamed).code == 0


def test_evaluate_with_another_coefficient(evaluated: Callable, trained: Path, dataset: Path):
    usual, other = evaluated(trained, dataset), evaluated(trained, dataset, "--coefficient", 0.6)
    assert (usual["coefficient"], other["coefficient"]) == (0.5, 0.6)
    assert usual["mean_dice"] != other["mean_dice"]


def test_evaluate_several_mixtures(evaluated: Callable, trained: Path, dataset: Path):
    one, three = evaluated(trained, dataset), evaluated(trained, dataset, "--mixtures", 3)
    assert (one["mixtures"], three["mixtures"]) == (1, 3)
    assert one["mean_dice"] != three["mean_dice"]


def test_evaluate_says_what_several_mixtures_cost(veilseg: Callable, trained: Path, dataset: Path):
    ended = veilseg("evaluate", trained, dataset, "--mixtures", 2)
    assert ended.code == 0
    (line,) = [line for line in ended.errors if line.startswith("veilseg: ")]
    assert line.startswith("veilseg: --mixtures: warning: 2 different proxies")
    assert "1/3 of the patient's variance" in line


def test_evaluate_a_bundle_for_the_algebra(
    evaluated: Callable, make_trained: Callable[..., Path], dataset: Path
):
    found = evaluated(make_trained(unmixing="algebraic"), dataset)
    assert found["variants"] == {"algebraic": found["mean_dice"]}


def test_a_bundle_without_a_template_needs_references(
    veilseg: Callable, evaluated: Callable, make_trained: Callable[..., Path], dataset: Path,
    tmp_path: Path,
):  # fmt: skip
    bundle = make_trained(references=["labelled"])
    others = phantoms.make_dataset(tmp_path / "others", ("erna", "fred"))
    vault = tmp_path / "vault"
    for command in (["evaluate", bundle, dataset], ["site", "init", vault, "--bundle", bundle]):
        ended = veilseg(*command)
        (line,) = ended.err.splitlines()
        assert (ended.code, ended.out) == (2, "")
        assert "--references synthetic: phantom-mixup has no template" in line
        assert "give --references DATASET" in line
    assert not vault.exists()
    assert evaluated(bundle, dataset, "--references", others)["references"] == "others"
    made = veilseg("site", "init", vault, "--bundle", bundle, "--references", others)
    assert made.code == 0
    image = dataset / "imagesTr" / "case0_0000.nii.gz"
    out = tmp_path / "out.nii.gz"
    common = ["segment", image, "--bundle", bundle, "--local", "-o", out]
    assert "no synthetic ones: make a vault with" in veilseg(*common).err
    assert veilseg(*common, "--vault", vault, "--subject", "anna").code == 0


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
        ([plain_bundle, dataset, "--split", "validation"], 3, "not the data phantom-plain was"),
        ([trained, dataset, "--split", "train"], 2, "--split train: choose test, validation, all"),
        ([trained, dataset, "--coefficient", "0.7"], 3, "--coefficient 0.7: phantom-mixup was"),
        ([plain_bundle, dataset, "--coefficient", "0.5"], 2, "--coefficient: plain mixes nothing"),
        ([plain_bundle, dataset, "--mixtures", "2"], 2, "--mixtures: plain mixes nothing"),
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
