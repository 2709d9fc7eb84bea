"""``torchrun … veilseg train``: several processes train what one would."""

import subprocess
import sys

import phantoms
import pytest
import torch
from safetensors.torch import load_file

from veilseg.bundle import open_client_half, open_server_half
from veilseg.training import loop

pytestmark = pytest.mark.usefixtures("remembered_exports")

# A gradient is rounded to bf16, 8 bits, by each process for its own part, in one process for the
# whole: relative differences of 2^-9 that do not add up, for they are random. Four times that.
LARGEST_DIFFERENCE = 2.0**-7


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return phantoms.make_dataset(tmp_path_factory.mktemp("data") / "phantoms", tuple("abcdef"))


@pytest.fixture(scope="module")
def torchrun():
    """The command in several processes on this machine; gives how it ended."""

    def run(processes, *arguments):
        launcher = ["torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
        command = [sys.executable, "-m", *launcher, "--nproc-per-node", processes]
        arguments = ["-m", "veilseg.cli.main", "train", *arguments]
        return subprocess.run(
            list(map(str, [*command, *arguments])), capture_output=True, text=True, timeout=240
        )

    return run


def momentum(bundle):
    """The optimisers' mean gradient: after the first step, a share of the only one."""
    state = load_file(bundle / "weights" / "checkpoint.safetensors")
    names = [name for name in sorted(state) if name.endswith(("exp_avg", "momentum_buffer"))]
    return torch.cat([state[name].flatten() for name in names])


def difference(found, expected):
    return float((momentum(found) - momentum(expected)).norm() / momentum(expected).norm())


def test_two_processes_train_as_one(veilseg, dataset, torchrun, tmp_path):
    one, two, other = (tmp_path / name for name in ("one", "two", "other"))
    ended = torchrun(2, dataset, "--steps", 1, "--out", two)
    assert ended.returncode == 0, ended.stderr
    for bundle, seed in ((one, 0), (other, 1)):
        assert veilseg("train", dataset, "--steps", 1, "--out", bundle, "--seed", seed).code == 0
    assert difference(two, one) < LARGEST_DIFFERENCE
    # Another run is told apart: with independent gradients the difference is about √2.
    assert difference(other, one) > 0.5
    # The first alone wrote and told.
    manifest = open_client_half(two).manifest
    assert open_server_half(two).manifest.bundle_id == manifest.bundle_id
    assert ended.stdout == f"{two}: mixup bundle {manifest.bundle_id[:12]}\n"
    told = [line for line in ended.stderr.splitlines() if line.startswith("two: ")]
    assert len(told) == len(set(told))
    assert {path.name for path in (two / "weights").iterdir()} == {
        path.name for path in (one / "weights").iterdir()
    }
    assert not list(two.rglob(".veilseg-*"))


@pytest.mark.long
def test_two_processes_resume_what_one_began(veilseg, dataset, torchrun, tmp_path, monkeypatch):
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    options = [dataset, "--scheme", "plain", "--steps", 2, "--out"]
    assert veilseg("train", *options, unbroken).code == 0
    save = loop.save_checkpoint

    def interrupted(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "STEPS_PER_CHECKPOINT", 1)
    monkeypatch.setattr(loop, "save_checkpoint", interrupted)
    assert veilseg("train", *options, broken).code == 130
    assert difference(broken, unbroken) > 0.1  # one step is not two
    ended = torchrun(2, *options, broken, "--resume")
    assert ended.returncode == 0, ended.stderr
    assert "broken: 2/2 training" in ended.stderr
    assert difference(broken, unbroken) < LARGEST_DIFFERENCE


@pytest.mark.long
def test_minutes_become_one_number_of_steps(dataset, torchrun, tmp_path):
    # Were they not agreed on, one process would wait for the other for ever.
    out = tmp_path / "out"
    ended = torchrun(2, dataset, "--scheme", "plain", "--minutes", 0.1, "--out", out)
    assert ended.returncode == 0, ended.stderr
    steps = open_client_half(out).manifest.provenance["steps"]
    assert f"out: {steps}/{steps} training" in ended.stderr


@pytest.mark.long
def test_three_processes_share_a_batch_of_sixteen(veilseg, dataset, torchrun, tmp_path):
    one, three = tmp_path / "one", tmp_path / "three"
    options = [dataset, "--steps", 1, "--out"]
    ended = torchrun(3, *options, three)
    assert ended.returncode == 0, ended.stderr
    assert veilseg("train", *options, one).code == 0
    assert difference(three, one) < LARGEST_DIFFERENCE


@pytest.mark.long
def test_two_processes_train_all_stages_of_an_encoding(veilseg, dataset, torchrun, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    options = [dataset, "--scheme", "encoding", "--steps", 4, "--out"]
    ended = torchrun(2, *options, two)
    assert ended.returncode == 0, ended.stderr
    assert veilseg("train", *options, one).code == 0
    # Its first stage is a single step, as above; of the others, files are all there is to compare.
    assert difference(two, one) < LARGEST_DIFFERENCE
    assert open_server_half(two).manifest.name == "two"
    names = {path.name for path in (one / "weights").iterdir()}
    assert names == {path.name for path in (two / "weights").iterdir()}
    assert {"checkpoint-mapping.safetensors", "checkpoint-decoder.safetensors"} <= names
