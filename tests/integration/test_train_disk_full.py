"""A disk that is full while training: one line, and nothing is lost that was there."""

import os
import resource
import signal
import subprocess
import sys

import phantoms
import pytest

from veilseg.bundle import open_client_half

MEGABYTE = 2**20
LINE = "cannot be written"


@pytest.fixture
def train(tmp_path):
    """The command in a process that may write files up to a size, as if no more was left."""
    data = phantoms.make_dataset(tmp_path / "phantoms", ("p", "q", "r", "s", "t"))
    out = tmp_path / "out"

    def limited(size):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing then fails, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def run(size=None):
        command = ["-m", "veilseg.cli.main", "train", data, "--scheme", "plain", "--steps", "1"]
        return subprocess.run(
            [sys.executable, *command, "--out", out, "--resume"],
            capture_output=True,
            text=True,
            env=os.environ,
            check=False,
            preexec_fn=None if size is None else lambda: limited(size),
        )

    return out, run


def refused(ended, beginning):
    assert ended.returncode == 3, ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("veilseg: ")]
    assert line.startswith(f"veilseg: {beginning}")
    assert LINE in line
    assert "Traceback" not in ended.stderr


@pytest.mark.long
def test_disk_full_at_a_checkpoint_and_at_the_bundle(train):
    out, run = train
    checkpoint = out / "weights" / "checkpoint.safetensors"
    refused(run(MEGABYTE), checkpoint)
    assert not checkpoint.exists()
    assert run().returncode == 0
    for half in ("client", "server"):
        (out / half / "manifest.json").unlink()
    before = checkpoint.read_bytes()
    # Nothing is left to train, and the network itself does not fit.
    refused(run(MEGABYTE), out)
    assert checkpoint.read_bytes() == before
    assert not list(out.rglob(".veilseg-*"))
    assert run().returncode == 0
    assert open_client_half(out).manifest.provenance["steps"] == 1
