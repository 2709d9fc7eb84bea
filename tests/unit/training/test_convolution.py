"""Gradients of convolutions on thin grids, in bf16 and with NaN in all memory that was freed."""

import pytest
import torch
from torch import nn

from veilseg.training.convolution import THIN, right_gradients


@pytest.mark.parametrize("grid", [(THIN, 4, 4), (THIN, THIN, THIN), (3, 4, 4)])
def test_gradients_are_those_of_double_precision(grid):
    torch.manual_seed(0)
    convolution = nn.Conv3d(24, 24, 3, padding=1)
    maps = torch.rand(2, 24, *grid)
    exact = nn.Conv3d(24, 24, 3, padding=1).double()
    exact.load_state_dict(convolution.state_dict())
    exact(maps.double()).pow(2).sum().backward()
    convolution.to(memory_format=torch.channels_last_3d)
    maps = maps.to(memory_format=torch.channels_last_3d)
    with right_gradients(convolution):
        for _ in range(20):
            for size in (100, 1000, 10_000, 100_000):
                freed = [torch.full((size,), float("nan"), dtype=torch.bfloat16) for _ in range(6)]
                del freed
            convolution.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                found = convolution(maps)
            found.float().pow(2).sum().backward()
            off = (convolution.weight.grad - exact.weight.grad).norm() / exact.weight.grad.norm()
            assert off < 0.02
    assert type(convolution) is nn.Conv3d
