"""Convolutions with right gradients on grids that are thin along their first axis."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

# On processors that have bf16 but not AMX, torch 2.13 reads memory that nobody wrote when it takes
# the gradient of a 3D convolution's weights on a grid whose first side is this (decision 0036).
THIN = 2


class _Convolution(nn.Conv3d):
    def _conv_forward(self, maps: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # Coarsest levels of small tiles: single precision costs nothing there.
        thin = maps.shape[2] == THIN
        with torch.autocast(maps.device.type, enabled=False) if thin else nullcontext():
            found: Tensor = super()._conv_forward(maps.float() if thin else maps, weight, bias)
        return found


@contextmanager
def right_gradients(module: nn.Module) -> Iterator[None]:
    """Convolutions of a module that is fitted are never taken in bf16 where that goes wrong.

    What lies in freed memory may be NaN, and then the loss is; or it is finite, and the gradient is
    wrong without a word.
    """
    changed = [one for one in module.modules() if type(one) is nn.Conv3d]
    for one in changed:
        one.__class__ = _Convolution
    try:
        yield
    finally:
        for one in changed:
            one.__class__ = nn.Conv3d
