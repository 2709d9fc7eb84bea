"""``veilseg train`` on a small data set, to a bundle that segments."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from veilseg.bundle import open_client_half, open_server_half
from veilseg.cli.main import app
from veilseg.errors import VeilsegError

SHAPE = (20, 18, 22)


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


def veilseg(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.mark.parametrize("scheme", ["plain", "mixup"])
def test_train_then_segment_and_evaluate(dataset, tmp_path, scheme):
    bundle = tmp_path / f"spheres-{scheme}"
    options = ["--scheme", scheme, "--out", bundle, "--steps", 2, "--seed", 3]
    done = veilseg("train", dataset, *options)
    assert done.exit_code == 0, done.output
    client, server = open_client_half(bundle), open_server_half(bundle)
    assert client.manifest.bundle_id == server.manifest.bundle_id
    assert client.manifest.provenance["steps"] == 2
    assert client.manifest.provenance["seed"] == 3
    assert client.manifest.bundle_id in (bundle / "README.md").read_text()
    image = dataset / "imagesTr" / "s0_0000.nii.gz"
    out = tmp_path / "labels.nii.gz"
    done = veilseg("segment", image, "--local", "--bundle", bundle, "-o", out)
    assert done.exit_code == 0, done.output
    assert nib.load(out).shape == SHAPE
    result = tmp_path / "result.json"
    done = veilseg("evaluate", bundle, dataset, "--split", "test", "--json", result)
    assert done.exit_code == 0, done.output
    found = json.loads(result.read_text())
    assert found["scheme"] == scheme
    assert 0 <= found["mean_dice"] <= 1
    assert [case["case"] for case in found["cases"]] == ["s4", "s5"]


def test_finished_run_is_not_overwritten_and_resumes_to_the_same_bundle(dataset, tmp_path):
    bundle = tmp_path / "spheres"
    options = ["--scheme", "mixup", "--out", bundle, "--steps", 1]
    assert veilseg("train", dataset, *options).exit_code == 0
    first = open_client_half(bundle).manifest.bundle_id
    again = veilseg("train", dataset, *options)
    assert isinstance(again.exception, VeilsegError)
    assert "--resume" in str(again.exception)
    assert veilseg("train", dataset, *options, "--resume").exit_code == 0
    assert open_client_half(bundle).manifest.bundle_id == first


def test_minutes_become_steps_once_and_are_recorded(dataset, tmp_path):
    bundle = tmp_path / "spheres"
    done = veilseg("train", dataset, "--scheme", "plain", "--out", bundle, "--minutes", 0.1)
    assert done.exit_code == 0, done.output
    steps = open_client_half(bundle).manifest.provenance["steps"]
    assert json.loads((bundle / "weights" / "run.json").read_text())["steps"] == steps >= 1


def test_steps_and_minutes_together_are_refused(dataset, tmp_path):
    out = tmp_path / "x"
    done = veilseg("train", dataset, "--out", out, "--steps", 1, "--minutes", 1)
    assert "--steps and --minutes" in str(done.exception)
    assert not out.exists()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda d: (d / "labelsTr/s1.nii.gz").unlink(), "missing for case s1"),
        (lambda d: _labels(d, np.full(SHAPE, 7, np.uint8)), "label 7 is not in dataset.json"),
        (lambda d: _labels(d, np.zeros((4, 4, 4), np.uint8)), "shape"),
        (lambda d: (d / "dataset.json").write_text("{"), "malformed"),
    ],
)
def test_bad_training_data_leaves_nothing(dataset, tmp_path, damage, reason):
    copy = tmp_path / "data"
    shutil.copytree(dataset, copy)
    damage(copy)
    out = tmp_path / "bundle"
    done = veilseg("train", copy, "--out", out, "--steps", 1)
    assert isinstance(done.exception, VeilsegError)
    assert reason in str(done.exception)
    assert not out.exists()


def _labels(folder, array):
    nib.save(nib.Nifti1Image(array, np.eye(4)), folder / "labelsTr" / "s1.nii.gz")


def test_fine_tuning_starts_from_a_bundles_weights(dataset, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert (
        veilseg("train", dataset, "--scheme", "plain", "--out", first, "--steps", 1).exit_code == 0
    )
    options = ["--scheme", "plain", "--out", second, "--steps", 1, "--init"]
    done = veilseg("train", dataset, *options, first)
    assert done.exit_code == 0, done.output
    start = open_client_half(second).manifest.provenance["init"]
    assert start["bundle_id"] == open_client_half(first).manifest.bundle_id
    assert start["bundle_id"] in (second / "README.md").read_text()


def test_weights_of_other_networks_are_refused(dataset, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert (
        veilseg("train", dataset, "--scheme", "plain", "--out", first, "--steps", 1).exit_code == 0
    )
    done = veilseg("train", dataset, "--scheme", "mixup", "--out", second, "--init", first)
    assert "weights of other networks" in str(done.exception)
    (first / "weights" / "model.safetensors").unlink()
    done = veilseg("train", dataset, "--scheme", "plain", "--out", second, "--init", first)
    assert "only a bundle that was trained here has weights" in str(done.exception)
    assert not (second / "client").exists()
