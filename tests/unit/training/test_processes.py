"""Which process writes."""

import pytest

from veilseg.training.processes import is_first


def test_alone_is_first(monkeypatch, fabric):
    monkeypatch.delenv("RANK", raising=False)
    assert is_first()
    assert (fabric.world_size, fabric.global_rank) == (1, 0)


@pytest.mark.parametrize(("rank", "expected"), [("0", True), ("1", False), ("10", False)])
def test_torchrun_numbers_the_processes(monkeypatch, rank, expected):
    monkeypatch.setenv("RANK", rank)
    assert is_first() is expected
