"""A run that was interrupted ends where an unbroken one ends; another run's file is refused."""

import math
import multiprocessing
import os
import signal
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from veilseg.errors import BundleIntegrity, TrainingDiverged
from veilseg.schemes.mixup.training import MixupTraining
from veilseg.training import interface, loop
from veilseg.training.checkpoint import load_checkpoint, save_checkpoint
from veilseg.training.loop import fit, learning_rate_factor
from veilseg.training.recipe import Recipe
from veilseg.training.run import Run

RUN = Run("mixup", steps=6, seed=1, batch=2, tile_shape=(16, 16, 16), data_sha256="0" * 64)


def fit_whole(scheme, cases, run, *others):
    """All stages of a scheme, of which there is one."""
    (stage,) = scheme.stages(cases, run, None)
    fit(stage, run.seed, run.fingerprint(), *others)


@pytest.fixture(autouse=True)
def one_thread():
    """Sums over threads round differently from run to run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Interrupted(Exception):
    """Power cut."""


@pytest.fixture
def checkpoint_after_three(monkeypatch):
    monkeypatch.setattr(loop, "STEPS_PER_CHECKPOINT", 3)


@pytest.fixture
def trained(cases, fabric):
    """Fit ``RUN``; gives the steps done. ``at`` is called at step 5."""

    def run(scheme, path, resume=False, at=None):
        steps = []

        def progress(step, loss):
            steps.append(step)
            if step == 5 and at is not None:
                at()

        fit_whole(scheme, cases, RUN, path, resume, progress, fabric)
        return steps

    return run


def power_cut():
    raise Interrupted


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.usefixtures("checkpoint_after_three")
@pytest.mark.parametrize("end", [power_cut, killed])
def test_resumed_run_equals_an_unbroken_one_bit_by_bit(make_mixup, trained, tmp_path, end):
    unbroken = make_mixup()
    assert trained(unbroken, tmp_path / "a" / "run.safetensors") == [1, 2, 3, 4, 5, 6]
    path = tmp_path / "b" / "run.safetensors"
    if end is power_cut:
        with pytest.raises(Interrupted):
            trained(make_mixup(), path, at=end)
    else:
        process = multiprocessing.get_context("fork").Process(
            target=trained, args=(make_mixup(), path), kwargs={"at": end}
        )
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    resumed = make_mixup()
    with torch.no_grad():  # whatever it was initialised with is replaced
        for parameter in resumed.parameters():
            parameter.fill_(0.5)
    assert trained(resumed, path, resume=True) == [4, 5, 6]
    for (name, expected), (_, found) in zip(
        unbroken.named_parameters(), resumed.named_parameters(), strict=True
    ):
        assert torch.equal(found, expected), name
    # The optimiser's state too; the files differ in the order of their metadata alone.
    first, second = (load_file(tmp_path / part / "run.safetensors") for part in "ab")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_training_moves_the_loss(cases, tmp_path, make_plain, fabric):
    torch.manual_seed(0)
    losses = []
    run = Run("plain", 20, 1, 2, (16, 16, 16), "0" * 64)
    fit_whole(
        make_plain(), cases, run, tmp_path / "x", False, lambda _, v: losses.append(v), fabric
    )
    assert losses[-1] < losses[0] - 0.1


@pytest.mark.usefixtures("checkpoint_after_three")
def test_loss_that_is_no_number_ends_the_run_and_spoils_no_checkpoint(
    monkeypatch, make_mixup, trained, tmp_path
):
    path, steps = tmp_path / "run.safetensors", []
    healthy = MixupTraining.forward

    def forward(self, batch):
        steps.append(len(steps) + 1)
        return healthy(self, batch) * (math.nan if steps[-1] == 5 else 1)

    monkeypatch.setattr(MixupTraining, "forward", forward)
    with pytest.raises(TrainingDiverged, match="step 5: the loss is nan"):
        trained(make_mixup(), path)
    assert all(torch.isfinite(tensor).all() for tensor in load_file(path).values())
    monkeypatch.setattr(MixupTraining, "forward", healthy)
    assert trained(make_mixup(), path, resume=True) == [4, 5, 6]


def test_fresh_run_ignores_an_old_checkpoint(cases, tmp_path, make_plain, fabric):
    run = Run("plain", 1, 1, 1, (16, 16, 16), "0" * 64)
    path = tmp_path / "run.safetensors"
    for _ in range(2):
        steps = []
        fit_whole(make_plain(), cases, run, path, False, lambda s, _, k=steps: k.append(s), fabric)
        assert steps == [1]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 2},
        {"steps": 7},
        {"data_sha256": "1" * 64},
        {"scheme": "plain"},
        {"batch": 1},
        {"fold": "2/5"},
        {"init": "b" * 64},
        {"recipe": Recipe(unmixing="algebraic")},
        {"recipe": Recipe(coefficient_range=(0.2, 0.9))},
    ],
)
def test_checkpoint_of_another_run_is_refused(tmp_path, change, make_plain):
    scheme = make_plain()
    path = tmp_path / "run.safetensors"
    save_checkpoint(path, scheme, [], 3, RUN.fingerprint())
    other = Run(**(vars(RUN) | change))
    before = [parameter.clone() for parameter in scheme.parameters()]
    with pytest.raises(BundleIntegrity, match="run with other data, steps, seed") as caught:
        load_checkpoint(path, scheme, [], other.fingerprint())
    assert str(path) in str(caught.value)
    assert all(map(torch.equal, before, scheme.parameters()))


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\x08\0\0\0\0\0\0\0{}      "])
def test_damaged_checkpoint_is_refused(tmp_path, content, make_plain):
    path = tmp_path / "run.safetensors"
    path.write_bytes(content)
    with pytest.raises(BundleIntegrity, match="safetensors: ") as caught:
        load_checkpoint(path, make_plain(), [], RUN.fingerprint())
    assert str(path) in str(caught.value)


def test_weights_alone_are_no_checkpoint(tmp_path, make_plain):
    # They carry no run: a file of safetensors without metadata.
    path = tmp_path / "weights.safetensors"
    scheme = make_plain()
    save_file({name: weight.detach() for name, weight in scheme.named_parameters()}, path)
    with pytest.raises(BundleIntegrity):
        load_checkpoint(path, scheme, [], RUN.fingerprint())


def test_checkpoint_of_other_networks_is_refused(tmp_path, make_plain):
    path = tmp_path / "run.safetensors"
    scheme = make_plain()
    save_checkpoint(path, scheme, [], 3, RUN.fingerprint())
    with pytest.raises(BundleIntegrity):
        load_checkpoint(path, make_plain(4), [], RUN.fingerprint())


def test_learning_rate_warms_up_and_ends_near_zero():
    factors = [learning_rate_factor(step, 200) for step in range(200)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert max(factors) == 1
    assert factors[-1] < 1e-3
    assert all(0 < factor <= 1 for factor in factors)
    assert learning_rate_factor(0, 1) == 1


def test_first_steps_see_parts(make_plain, cases, tmp_path, fabric, monkeypatch):
    cut = multiprocessing.Array("b", 8)  # batches are cut where they are made

    def recorded(batch, tile_shape, step, seed):
        assert (tile_shape, seed) == (RUN.tile_shape, RUN.seed)
        cut[step] += 1
        return batch

    monkeypatch.setattr(interface, "cropped", recorded)
    run = replace(RUN, steps=8, recipe=Recipe(cropped_share=0.75))
    fit_whole(make_plain(), cases, run, tmp_path / "x", False, lambda *_: None, fabric)
    assert list(cut) == [1] * 6 + [0] * 2
