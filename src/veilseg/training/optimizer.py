"""How weights are moved: Muon for convolution kernels, Adam for everything else.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) makes the momentum of a matrix
orthogonal before it takes a step, so that rare directions are learned as fast as common ones. A
mixture is told apart in half of the steps that Adam needs (docs/experiments.md).
"""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.optim import Adam, Muon, Optimizer

# Kernels with fewer rows or columns are no matrices worth the name.
SMALLEST_SIDE = 8


class KernelMuon(Muon):
    """torch's Muon, which takes matrices only, on convolution kernels seen as matrices.

    Parameters
    ----------
    kernels : iterable of Tensor, shape (O, I, X, Y[, Z])
        On their device and in their memory layout already: the matrices are views of them.
    learning_rate : float
    """

    def __init__(self, kernels: Iterable[Tensor], learning_rate: float) -> None:
        self._kernels = list(kernels)
        matrices = [as_matrix(kernel.detach()) for kernel in self._kernels]
        for kernel, matrix in zip(self._kernels, matrices, strict=True):
            if kernel.data_ptr() != matrix.data_ptr():
                raise ValueError("a kernel's memory is no matrix: it would not be moved")
        super().__init__(matrices, lr=learning_rate, weight_decay=0, adjust_lr_fn="match_rms_adamw")

    def step(self, closure: Any = None) -> Any:
        for kernel, matrix in zip(self._kernels, self.param_groups[0]["params"], strict=True):
            matrix.grad = None if kernel.grad is None else as_matrix(kernel.grad)
        return super().step(closure)  # type: ignore[no-untyped-call]  # torch declares no types


def as_matrix(kernel: Tensor) -> Tensor:
    """(O, I, X, Y[, Z]) as (O, …), a view where the memory layout is torch's ``channels_last``."""
    return kernel.movedim(1, -1).flatten(1)


def optimizers(network: nn.Module, learning_rate: float) -> list[Optimizer]:
    """Muon for kernels that see more than one voxel, Adam for biases, norms and 1×1 kernels."""
    kernels: list[Tensor] = []
    others: list[Tensor] = []
    for parameter in network.parameters():
        sees_around = parameter.ndim > 3 and parameter.shape[2:].numel() > 1
        wide = min(parameter.shape[0], parameter[0].numel()) >= SMALLEST_SIDE
        (kernels if sees_around and wide else others).append(parameter)
    adam = Adam(others, lr=learning_rate)
    return [KernelMuon(kernels, learning_rate), adam] if kernels else [adam]
