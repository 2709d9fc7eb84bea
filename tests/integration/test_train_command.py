"""``veilseg train`` on a small data set, to a bundle that segments."""

import json
import shutil

import nibabel as nib
import numpy as np
import phantoms
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from veilseg.bundle import open_client_half, open_server_half
from veilseg.cli.main import app
from veilseg.datasets.cases import PreparedCase
from veilseg.datasets.layout import read_dataset
from veilseg.schemes.mixup.training import MixupTraining
from veilseg.schemes.plain.training import PlainTraining
from veilseg.schemes.references import TEMPLATE_FILE, UNMIXER_FILE
from veilseg.training import train as training
from veilseg.training.recipe import Recipe
from veilseg.training.start import start_from

pytestmark = pytest.mark.usefixtures("remembered_exports")

SHAPE = (20, 18, 22)
SPHERE = {"value": "41216001", "scheme": "SCT", "meaning": "Prostate"}
# Of six patients, s1 and s4; s0 validates.
FOLD = "2/3"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "spheres"
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    fields = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "sphere": 1},
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(fields))
    for number in range(6):
        rng = np.random.default_rng(number)
        centre = np.array(SHAPE) / 2 + rng.uniform(-2, 2, 3)
        distance = np.linalg.norm(np.indices(SHAPE) - centre.reshape(3, 1, 1, 1), axis=0)
        labels = (distance < 5).astype(np.uint8)
        image = (100 + 80 * labels + rng.normal(0, 8, SHAPE)).astype(np.float32)
        nib.save(nib.Nifti1Image(image, np.eye(4)), folder / f"imagesTr/s{number}_0000.nii.gz")
        nib.save(nib.Nifti1Image(labels, np.eye(4)), folder / f"labelsTr/s{number}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def fold_bundle(dataset, tmp_path_factory):
    """A plain bundle of one fold, and the patients it was fitted to."""
    bundle = tmp_path_factory.mktemp("fold") / "spheres"
    fitted = []
    fit = training.fit

    def spy(stage, *rest):
        fitted.extend(case.patient for case in stage.examples.cases)
        fit(stage, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "fit", spy)
        options = ["--scheme", "plain", "--out", bundle, "--steps", 1, "--fold", FOLD]
        done = CliRunner().invoke(app, list(map(str, ["train", dataset, *options])))
    assert done.exit_code == 0, done.output
    return bundle, fitted


def reason_of(ended, code):
    """The one line of a command that had to fail; progress has a colon and no ``veilseg``."""
    (line,) = (line for line in ended.err.splitlines() if line.startswith("veilseg: "))
    assert (ended.code, ended.out) == (code, ""), ended.err
    return line.removeprefix("veilseg: ")


@pytest.mark.parametrize("scheme", ["plain", "mixup"])
def test_train_then_segment_and_evaluate(veilseg, dataset, tmp_path, scheme):
    bundle = tmp_path / f"spheres-{scheme}"
    codes = tmp_path / "codes.json"
    codes.write_text(json.dumps({"sphere": SPHERE}))
    options = ["--scheme", scheme, "--out", bundle, "--steps", 2, "--seed", 3]
    done = veilseg("train", dataset, *options, "--label-codes", codes)
    assert done.code == 0, done.err
    client, server = open_client_half(bundle), open_server_half(bundle)
    assert [label.code for label in client.manifest.labels] == [None, SPHERE]
    assert done.out == f"{bundle}: {scheme} bundle {client.manifest.bundle_id[:12]}\n"
    assert client.manifest.bundle_id == server.manifest.bundle_id
    assert client.manifest.provenance["steps"] == 2
    assert client.manifest.provenance["seed"] == 3
    assert client.manifest.provenance["fold"] is None
    assert client.manifest.bundle_id in (bundle / "README.md").read_text()
    image = dataset / "imagesTr" / "s0_0000.nii.gz"
    out = tmp_path / "labels.nii.gz"
    done = veilseg("segment", image, "--local", "--bundle", bundle, "-o", out)
    assert done.code == 0, done.err
    assert nib.load(out).shape == SHAPE
    result = tmp_path / "result.json"
    done = veilseg("evaluate", bundle, dataset, "--split", "test", "--json", result)
    assert done.code == 0, done.err
    found = json.loads(result.read_text())
    assert found["scheme"] == scheme
    assert 0 <= found["mean_dice"] <= 1
    assert [case["case"] for case in found["cases"]] == ["s4", "s5"]


def test_finished_run_is_not_overwritten_and_resumes_to_the_same_bundle(veilseg, dataset, tmp_path):
    bundle = tmp_path / "spheres"
    options = ["--scheme", "mixup", "--out", bundle, "--steps", 1]
    assert veilseg("train", dataset, *options).code == 0
    first = open_client_half(bundle).manifest.bundle_id
    assert "--resume" in reason_of(veilseg("train", dataset, *options), 3)
    assert veilseg("train", dataset, *options, "--resume").code == 0
    assert open_client_half(bundle).manifest.bundle_id == first


def test_resumed_with_other_options(veilseg, dataset, tmp_path, fold_bundle):
    bundle = tmp_path / "spheres"
    shutil.copytree(fold_bundle[0], bundle)
    record = bundle / "weights" / "run.json"
    before = record.read_bytes()
    resume = ["--scheme", "plain", "--out", bundle, "--resume", "--fold"]
    line = reason_of(veilseg("train", dataset, *resume, FOLD, "--steps", 3), 2)
    assert line == "--steps 3: the run to resume has 1"
    line = reason_of(veilseg("train", dataset, *resume, "1/3", "--seed", 5), 2)
    assert line == f"{record}: the run to resume has another seed, fold"
    assert record.read_bytes() == before
    record.write_text("{}")
    line = reason_of(veilseg("train", dataset, *resume, FOLD), 5)
    assert line == f"{record}: damaged: no number of steps"


def test_minutes_become_steps_once_and_are_recorded(veilseg, dataset, tmp_path, monkeypatch):
    bundle = tmp_path / "spheres"
    done = veilseg("train", dataset, "--scheme", "plain", "--out", bundle, "--minutes", 0.1)
    assert done.code == 0, done.err
    steps = open_client_half(bundle).manifest.provenance["steps"]
    assert json.loads((bundle / "weights" / "run.json").read_text())["steps"] == steps >= 1

    # A run is defined by its steps: no other number of minutes is looked at again.
    def timed(*_):
        pytest.fail("steps were timed anew")

    monkeypatch.setattr(training, "seconds_per_step", timed)
    options = ["--scheme", "plain", "--out", bundle, "--resume", "--minutes", 60]
    done = veilseg("train", dataset, *options)
    assert done.code == 0, done.err
    assert open_client_half(bundle).manifest.provenance["steps"] == steps


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--steps", 1, "--minutes", 1], "--steps and --minutes: give one of them"),
        (["--unmixing", "magic"], "--unmixing magic: choose learned or algebraic"),
        (["--coefficients", "0.5"], "--coefficients 0.5: give LOW:HIGH, as 0.4:0.6"),
        (["--coefficients", "0:1"], "--coefficients 0:1: needs 0 < LOW ≤ HIGH < 1"),
        (["--fold", "4/3"], "fold 4/3: must be I/N, the I-th of N ≥ 2 parts, as in 2/5"),
        (
            ["--scheme", "magic"],
            "--scheme magic: unknown; choose one of mixup, plain, encoding, noise, deformation, "
            "privacy_net",
        ),
        (
            ["--scheme", "plain", "--unmixing", "algebraic"],
            "--unmixing, --coefficients: plain mixes nothing",
        ),
        (
            ["--scheme", "plain", "--coefficients", "0.2:0.9"],
            "--unmixing, --coefficients: plain mixes nothing",
        ),
    ],
)
def test_options_that_make_no_sense(veilseg, dataset, tmp_path, options, reason):
    out = tmp_path / "x"
    assert reason_of(veilseg("train", dataset, "--out", out, *options), 2) == reason
    assert not out.exists()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda d: (d / "labelsTr/s0.nii.gz").unlink(), "missing for case s0"),
        (lambda d: _labels(d, np.full(SHAPE, 7, np.uint8)), "label 7 is not in dataset.json"),
        (lambda d: _labels(d, np.zeros((4, 4, 4), np.uint8)), "shape"),
        (lambda d: (d / "dataset.json").write_text("{"), "malformed"),
    ],
)
def test_bad_training_data_leaves_nothing(veilseg, dataset, tmp_path, damage, reason):
    copy = tmp_path / "data"
    shutil.copytree(dataset, copy)
    damage(copy)
    out = tmp_path / "bundle"
    assert reason in reason_of(veilseg("train", copy, "--out", out, "--steps", 1), 3)
    assert not out.exists()


def test_bad_validation_image_is_found_before_training(veilseg, dataset, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(dataset, copy)
    _labels(copy, np.full(SHAPE, 9, np.uint8))  # s0 validates in this fold
    options = ["--scheme", "plain", "--fold", FOLD, "--steps", 1]
    ended = veilseg("train", copy, "--out", tmp_path / "bundle", *options)
    assert "s0" in reason_of(ended, 3)
    assert "training" not in ended.err
    assert not (tmp_path / "bundle").exists()


def _labels(folder, array):
    nib.save(nib.Nifti1Image(array, np.eye(4)), folder / "labelsTr" / "s0.nii.gz")


def test_fold_trains_on_its_patients_and_is_tested_on_the_others(
    veilseg, dataset, tmp_path, fold_bundle
):
    bundle, fitted = fold_bundle
    assert fitted == ["s2", "s3", "s5"]
    provenance = open_client_half(bundle).manifest.provenance
    assert provenance["fold"] == FOLD
    assert provenance["cases"] == {"train": 3, "validation": 1, "test": 2}
    for split, expected in (("test", ["s1", "s4"]), ("validation", ["s0"])):
        result = tmp_path / f"{split}.json"
        done = veilseg("evaluate", bundle, dataset, "--split", split, "--json", result)
        assert done.code == 0, done.err
        found = json.loads(result.read_text())
        assert [case["case"] for case in found["cases"]] == expected
        assert found["fold"] == FOLD


@pytest.mark.parametrize("fold", [[], ["--fold", "1/3"], ["--fold", "2/2"]])
def test_start_that_has_seen_who_is_held_out_is_refused(
    veilseg, dataset, tmp_path, fold_bundle, fold
):
    out = tmp_path / "x"
    options = ["--scheme", "plain", "--out", out, "--init", fold_bundle[0], *fold]
    line = reason_of(veilseg("train", dataset, *options), 2)
    assert line == (
        f"--init {fold_bundle[0]}: was trained on another fold of these data: it has seen "
        "patients whom this run holds out"
    )
    assert not out.exists()


def test_start_that_was_split_by_other_patients_is_refused(veilseg, dataset, tmp_path, fold_bundle):
    renamed, out = tmp_path / "renamed", tmp_path / "x"
    shutil.copytree(dataset, renamed)
    cases = [case.name for case in read_dataset(dataset).cases]
    table = "".join(f"{case},somebody{number // 2}\n" for number, case in enumerate(cases))
    (renamed / "cases.csv").write_text(f"case,patient\n{table}")
    options = ["--scheme", "plain", "--out", out, "--init", fold_bundle[0], "--fold", FOLD]
    line = reason_of(veilseg("train", renamed, *options), 2)
    assert "was trained on these data with other patients in cases.csv" in line
    assert not out.exists()


def test_fine_tuning_on_other_data_starts_from_a_bundles_weights(
    veilseg, dataset, tmp_path, fold_bundle
):
    own = tmp_path / "own"
    shutil.copytree(dataset, own)
    (own / "imagesTr" / "s5_0000.nii.gz").unlink()
    second = tmp_path / "second"
    options = ["--scheme", "plain", "--out", second, "--steps", 1, "--init", fold_bundle[0]]
    done = veilseg("train", own, *options)
    assert done.code == 0, done.err
    start = open_client_half(second).manifest.provenance["init"]
    assert start["bundle_id"] == open_client_half(fold_bundle[0]).manifest.bundle_id
    assert start["bundle_id"] in (second / "README.md").read_text()


def test_weights_to_start_from_are_those_of_the_shipped_models(tmp_path, fold_bundle):
    # A bundle as it is shipped, without its weights/ folder.
    shipped = tmp_path / "shipped"
    shutil.copytree(fold_bundle[0], shipped, ignore=shutil.ignore_patterns("weights"))
    scheme = PlainTraining(3, 1, 2, None)  # no self-test is drawn from its template
    start_from(shipped, scheme)
    trained = load_file(fold_bundle[0] / "weights" / "checkpoint.safetensors")
    for name, parameter in scheme.named_parameters():
        # FP16 has 11 bits; below 2⁻¹⁴ it is coarser.
        torch.testing.assert_close(parameter, trained[f"model/{name}"], rtol=2**-11, atol=2**-24)


def test_a_network_that_another_scheme_lacks_begins_anew(fold_bundle):
    template = phantoms.template(1, phantoms.TILE)
    image = np.zeros((1, *phantoms.TILE), np.float32)
    case = PreparedCase("p", "p", image, template.label_of_tissue.take(template.tissues))
    scheme = MixupTraining(3, 1, 2, template, [case], Recipe())
    before = {name: weight.detach().clone() for name, weight in scheme.named_parameters()}
    start_from(fold_bundle[0], scheme)
    trained = load_file(fold_bundle[0] / "weights" / "checkpoint.safetensors")
    for name, weight in scheme.named_parameters():
        network, _, _ = name.partition(".")
        assert torch.equal(weight, before[name]) == (network == "unmixer"), name
        if network == "segmenter":
            expected = trained[f"model/{name}"]
            torch.testing.assert_close(weight, expected, rtol=2**-11, atol=2**-24)


def test_weights_of_other_networks_are_refused(veilseg, dataset, tmp_path, fold_bundle):
    first, second, own = tmp_path / "first", tmp_path / "second", tmp_path / "own"
    shutil.copytree(fold_bundle[0], first)
    shutil.copytree(dataset, own)
    fields = json.loads((own / "dataset.json").read_text())
    fields["labels"]["another"] = 2
    (own / "imagesTr" / "s5_0000.nii.gz").unlink()
    (own / "dataset.json").write_text(json.dumps(fields))
    options = ["--out", second, "--init", first]
    line = reason_of(veilseg("train", own, "--scheme", "plain", *options), 5)
    assert "weights of other networks" in line
    options += ["--fold", FOLD]
    shutil.rmtree(first / "server")
    assert "server" in reason_of(veilseg("train", dataset, "--scheme", "plain", *options), 3)
    assert not second.exists()


def test_baseline_without_unmixing_network(veilseg, dataset, tmp_path):
    bundle, result = tmp_path / "spheres", tmp_path / "result.json"
    options = ["--unmixing", "algebraic", "--coefficients", "0.2:0.9", "--steps", 1]
    done = veilseg("train", dataset, "--out", bundle, *options)
    assert done.code == 0, done.err
    assert not (bundle / "client" / UNMIXER_FILE).exists()
    assert (bundle / "client" / TEMPLATE_FILE).exists()
    settings = open_client_half(bundle).manifest.settings
    assert settings["unmixing"] == "algebraic"
    assert settings["coefficient_range"] == [0.2, 0.9]
    image, out = dataset / "imagesTr" / "s0_0000.nii.gz", tmp_path / "labels.nii.gz"
    done = veilseg("segment", image, "--local", "--bundle", bundle, "-o", out)
    assert done.code == 0, done.err
    assert nib.load(out).shape == SHAPE
    done = veilseg("evaluate", bundle, dataset, "--split", "test", "--json", result)
    assert done.code == 0, done.err
    assert json.loads(result.read_text())["variants"].keys() == {"algebraic"}
