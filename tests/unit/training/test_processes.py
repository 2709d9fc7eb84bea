"""Which process writes, and what several can share."""

from types import SimpleNamespace

import pytest

from veilseg.errors import WrongUsage
from veilseg.training.processes import is_first, require_equal_parts


def test_alone_is_first(monkeypatch, fabric):
    monkeypatch.delenv("RANK", raising=False)
    assert is_first()
    assert (fabric.world_size, fabric.global_rank) == (1, 0)


@pytest.mark.parametrize(("rank", "expected"), [("0", True), ("1", False), ("10", False)])
def test_torchrun_numbers_the_processes(monkeypatch, rank, expected):
    monkeypatch.setenv("RANK", rank)
    assert is_first() is expected


@pytest.mark.parametrize(("batch", "processes"), [(1, 1), (7, 7), (16, 2)])
def test_batch_in_equal_parts(batch, processes):
    require_equal_parts(batch, SimpleNamespace(world_size=processes))


@pytest.mark.parametrize(("batch", "processes"), [(1, 2), (7, 2), (16, 3)])
def test_batch_that_cannot_be_shared(batch, processes):
    with pytest.raises(WrongUsage, match=f"{processes} processes cannot share a batch of {batch}"):
        require_equal_parts(batch, SimpleNamespace(world_size=processes))
