"""``veilseg train`` on pictures and slices whose lesions lie anywhere, through every command."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import phantoms
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from veilseg.bundle import open_client_half
from veilseg.schemes.references import TEMPLATE_FILE

SHAPE = (40, 28)
CASES = 8


def make_dataset(folder, ending, shape=SHAPE):
    """Bright discs at random places: RGB pictures, or slices with one channel."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    names = ("red", "green", "blue") if ending == ".png" else ("MR",)
    fields = {
        "channel_names": {str(index): name for index, name in enumerate(names)},
        "labels": {"background": 0, "disc": 1},
        "file_ending": ending,
    }
    (folder / "dataset.json").write_text(json.dumps(fields))
    for number in range(CASES):
        rng = np.random.default_rng(number)
        centre = rng.uniform(4, np.array(shape) - 5).reshape(2, 1, 1)
        labels = (np.linalg.norm(np.indices(shape) - centre, axis=0) < 4).astype(np.uint8)
        image = 90 + 100 * labels + rng.normal(0, 10, (len(names), *shape))
        image = image.round().astype(np.uint8)
        if ending == ".png":
            phantoms.write_png(folder / "imagesTr" / f"d{number}_0000.png", image)
            phantoms.write_png(folder / "labelsTr" / f"d{number}.png", labels)
        else:
            affine = np.diag([1.5, 1.5, 5, 1])
            phantoms.write_nifti(folder / "imagesTr" / f"d{number}_0000{ending}", image[0], affine)
            phantoms.write_nifti(folder / "labelsTr" / f"d{number}{ending}", labels, affine)
    return folder


@pytest.mark.parametrize(("ending", "scheme"), [(".png", "mixup"), (".nii.gz", "plain")])
def test_train_segment_evaluate(veilseg, tmp_path, ending, scheme):
    data, bundle = make_dataset(tmp_path / "discs", ending), tmp_path / "bundle"
    done = veilseg("train", data, "--scheme", scheme, "--steps", 2, "--out", bundle)
    assert done.code == 0, done.err
    manifest = open_client_half(bundle).manifest
    assert manifest.spatial_dims == 2
    assert manifest.tile_shape == (40, 32)
    assert manifest.unit == ("pixel" if ending == ".png" else "mm")
    assert len(manifest.channels) == (3 if ending == ".png" else 1)
    options = ["--local", "--bundle", bundle]
    evaluation = ["--split", "test", "--json", tmp_path / "result.json"]
    if scheme == "mixup":
        # Discs lie at no common place: no template, so references are labelled cases.
        assert manifest.settings["references"] == ["labelled"]
        assert not (bundle / "client" / TEMPLATE_FILE).exists()
        refused = veilseg("evaluate", bundle, data, *evaluation)
        assert (refused.code, refused.out) == (2, "")
        vault = tmp_path / "vault"
        made = veilseg("site", "init", vault, "--bundle", bundle, "--references", data)
        assert made.code == 0, made.err
        options += ["--vault", vault, "--subject", "d0"]
        evaluation += ["--references", data]
    out = tmp_path / f"out{ending}"
    done = veilseg("segment", data / "imagesTr" / f"d0_0000{ending}", *options, "-o", out)
    assert done.code == 0, done.err
    assert phantoms.read_labels(out).shape == SHAPE
    done = veilseg("evaluate", bundle, data, *evaluation)
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "result.json").read_text())
    # A fifth of eight, and one before them validates.
    assert [case["case"] for case in found["cases"]] == ["d6", "d7"]
    if scheme == "mixup":
        assert found["reference_patients"] == [f"d{number}" for number in range(5)]


@contextmanager
def training(data, out):
    """The command as a process of its own, on one thread: sums over threads round differently."""
    options = ["--scheme", "plain", "--steps", "130", "--out", out, "--resume"]
    command = [sys.executable, "-m", "veilseg.cli.main", "train", data, *options]
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_killed_run_resumes_to_the_weights_of_an_unbroken_one(tmp_path):
    """SIGKILL in the middle, as when a machine fails: nothing of Veilseg's runs at the end."""
    data = make_dataset(tmp_path / "discs", ".nii.gz", (16, 16))
    broken, unbroken = tmp_path / "broken", tmp_path / "unbroken"
    checkpoint = broken / "weights" / "checkpoint.safetensors"
    with training(data, broken) as process:
        while not checkpoint.exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    with safe_open(checkpoint, framework="pt") as stored:
        assert stored.metadata()["step"] == "100"
    for out in (broken, unbroken):
        with training(data, out) as process:
            assert process.wait() == 0
    found, expected = (
        load_file(out / "weights" / "checkpoint.safetensors") for out in (broken, unbroken)
    )
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not list(broken.rglob(".veilseg-*"))
