"""``veilseg train`` on pictures and slices whose lesions lie anywhere, through every command."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

import nibabel as nib
import numpy as np
import phantoms
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from veilseg.bundle import open_client_half
from veilseg.schemes.references import TEMPLATE_FILE

pytestmark = pytest.mark.usefixtures("remembered_exports")

SHAPE = (40, 28)
CASES = 8
# After two or three, classes are nearly tied and no self-test can tell which should win.
STEPS = 20
# Shows nothing but background; of those who are tested.
EMPTY = 7


@dataclass(frozen=True)
class Kind:
    """A kind of picture, and what it becomes."""

    ending: str
    channels: int
    files: int = 1
    affine: np.ndarray | None = field(default_factory=lambda: np.diag([1.5, 1.5, 5, 1]))

    @property
    def unit(self):
        return "pixel" if self.ending == ".png" or self.affine is None else "mm"


KINDS = {
    "grey PNG": Kind(".png", 1),
    "RGB PNG": Kind(".png", 3),
    "two grey PNG": Kind(".png", 2, files=2),
    "slice": Kind(".nii.gz", 1),
    "slice of two channels": Kind(".nii.gz", 2, files=2),
    "slice that states no size": Kind(".nii.gz", 1, affine=None),
}
# Each kind by each scheme; the slowest scheme by one kind only where it has to be quick.
EVERY_COMBINATION = [
    pytest.param(
        kind,
        scheme,
        marks=[pytest.mark.long] if scheme == "encoding" and name != "RGB PNG" else [],
        id=f"{name}-{scheme}",
    )
    for name, kind in KINDS.items()
    for scheme in ("plain", "mixup", "encoding")
]


def make_dataset(folder, kind=KINDS["slice"], shape=SHAPE):
    """Discs with a bright middle, at random places; three classes, the last case without any."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    fields = {
        "channel_names": {str(index): f"channel {index}" for index in range(kind.channels)},
        "labels": {"background": 0, "rim": 1, "middle": 2},
        "file_ending": kind.ending,
    }
    (folder / "dataset.json").write_text(json.dumps(fields))
    for number in range(CASES):
        rng = np.random.default_rng(number)
        centre = rng.uniform(5, np.array(shape) - 6).reshape(2, 1, 1)
        distance = np.linalg.norm(np.indices(shape) - centre, axis=0)
        labels = np.select([distance < 2, distance < 5], [2, 1], 0).astype(np.uint8)
        if number == EMPTY:
            labels[:] = 0
        image = 90 + 50 * labels + rng.normal(0, 10, (kind.channels, *shape))
        image = image.round().astype(np.uint8)
        # An RGB picture is one file, whatever its channels.
        for index, part in enumerate(np.array_split(image, kind.files)):
            write(kind, folder / "imagesTr" / f"d{number}_{index:04d}{kind.ending}", part)
        write(kind, folder / "labelsTr" / f"d{number}{kind.ending}", labels[None])
    return folder


def write(kind, path, channels):
    array = channels[0] if len(channels) == 1 else channels
    if kind.ending == ".png":
        phantoms.write_png(path, array)
    elif kind.affine is None:
        nib.save(nib.Nifti1Image(array, None), path)
    else:
        phantoms.write_nifti(path, array, kind.affine)


@pytest.mark.parametrize(("kind", "scheme"), EVERY_COMBINATION)
def test_every_command(veilseg, start_server, tmp_path, kind, scheme):
    """train, serve, site init, segment through the server and locally, evaluate."""
    data, bundle = make_dataset(tmp_path / "discs", kind), tmp_path / "bundle"
    done = veilseg("train", data, "--scheme", scheme, "--steps", STEPS, "--out", bundle)
    assert done.code == 0, done.err
    manifest = open_client_half(bundle).manifest
    assert manifest.spatial_dims == 2
    assert manifest.tile_shape == (40, 32)
    assert (manifest.unit, len(manifest.channels)) == (kind.unit, kind.channels)
    evaluation = ["--split", "test", "--json", tmp_path / "result.json"]
    site = ["--bundle", bundle]
    if scheme == "mixup":
        # Discs lie at no common place: no template, so references are labelled cases.
        assert manifest.settings["references"] == ["labelled"]
        assert not (bundle / "client" / TEMPLATE_FILE).exists()
        refused = veilseg("evaluate", bundle, data, *evaluation)
        assert (refused.code, refused.out) == (2, "")
        vault = tmp_path / "vault"
        made = veilseg("site", "init", vault, "--bundle", bundle, "--references", data)
        assert made.code == 0, made.err
        site += ["--vault", vault, "--subject", "d0"]
        evaluation += ["--references", data]
    image = data / "imagesTr" / f"d0_0000{kind.ending}"
    results = []
    server = start_server(bundle)
    for name, where in (("local", ["--local"]), ("served", ["--server", server.url])):
        out = tmp_path / f"{name}{kind.ending}"
        entropy = tmp_path / f"{name}-entropy{kind.ending}"
        done = veilseg("segment", image, *site, *where, "-o", out, "--uncertainty", entropy)
        assert done.code == 0, done.err
        assert entropy.exists()
        results.append(phantoms.read_labels(out))
        assert results[-1].shape == SHAPE
    assert (results[0] == results[1]).mean() > 0.98
    done = veilseg("evaluate", bundle, data, *evaluation)
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "result.json").read_text())
    # A fifth of eight, and one before them validates.
    assert [case["case"] for case in found["cases"]] == ["d6", "d7"]
    assert found["unit"] == kind.unit
    # Of a class that is not there, 0 where it was found all the same, else nothing.
    assert set(found["cases"][1]["dice"].values()) <= {0.0, None}
    if scheme == "mixup":
        assert found["reference_patients"] == ["d5"]


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
    data = make_dataset(tmp_path / "discs", shape=(16, 16))
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
