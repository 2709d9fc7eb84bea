"""A network of an attacker that was broken off goes on where it was; once it is done it is kept."""

import pytest
import torch

from veilseg.audit.separator import separator

STEPS = 130  # a checkpoint is written after a hundred


class _Stopped(Exception):
    pass


def weights(network):
    return {name: weight.detach().clone() for name, weight in network.named_parameters()}


def trained(workshop, scene, report=lambda *_: None, folder=None):
    """The network, and at which steps it was fitted."""
    work, steps = workshop(scene, steps=STEPS), []
    work.folder = folder or work.folder

    def said(done, total, what):
        steps.append(done)
        report(done, total, what)

    work.report = said
    return weights(separator(work, scene.coefficient, sees_answer=False)), steps


def test_a_network_that_was_broken_off_goes_on_from_its_checkpoint(workshop, mixup, tmp_path):
    def stop(done, *_):
        if done == 110:
            raise _Stopped

    with pytest.raises(_Stopped):
        trained(workshop, mixup, stop, tmp_path)
    (checkpoint,) = tmp_path.glob("*.checkpoint")
    found, steps = trained(workshop, mixup, folder=tmp_path)
    assert steps == list(range(101, STEPS + 1))
    assert not checkpoint.exists()
    whole, _ = trained(workshop, mixup)
    for name, weight in whole.items():
        torch.testing.assert_close(found[name], weight)


def test_a_network_that_is_there_is_read(workshop, mixup, tmp_path):
    first, _ = trained(workshop, mixup, folder=tmp_path)
    again, steps = trained(workshop, mixup, folder=tmp_path)
    assert steps == []
    assert all(torch.equal(first[name], again[name]) for name in first)
