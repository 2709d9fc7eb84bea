"""Fit and run an attacker's network: the package's loop, any loss."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from veilseg.payload import Float32Array
from veilseg.training import loop
from veilseg.training.loader import Batch
from veilseg.training.processes import launch
from veilseg.training.stage import Stage

LEARNING_RATE = 8e-3

Loss = Callable[[nn.Module, Batch], Tensor]
Progress = Callable[[int, int], None]


class _WithLoss(nn.Module):
    def __init__(self, network: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.network, self.loss = network, loss

    def forward(self, batch: Batch) -> Tensor:
        return self.loss(self.network, batch)


def fit(
    network: nn.Module,
    examples: Dataset[Batch],
    spatial_dims: int,
    loss: Loss,
    steps: int,
    batch: int,
    seed: int,
    progress: Progress,
    checkpoint: Path,
) -> None:
    """Fit a network in place.

    Parameters
    ----------
    network : Module
    examples : sized Dataset
        ``steps * batch`` of them.
    spatial_dims : int
        Of the network's kernels.
    loss : callable
        Of network and batch.
    steps, batch, seed : int
    progress : callable
        Called with (steps done, steps).
    checkpoint : Path
        Gone on from where it exists; written on the way, and left there. Its name says what for.

    Raises
    ------
    TrainingDiverged
        If the loss is no finite number.
    """
    stage = Stage("", _WithLoss(network, loss), examples, spatial_dims, steps, batch, LEARNING_RATE)
    loop.fit(stage, seed, "", checkpoint, True, lambda done, _: progress(done, steps), launch())


@torch.no_grad()
def run(network: nn.Module, *maps: Float32Array) -> Float32Array:
    """What is known of one tile, as (C, X, Y[, Z]), through a network."""
    given = [torch.from_numpy(np.ascontiguousarray(one))[None] for one in maps]
    with launch().autocast():
        found = network(*given)
    return cast(Float32Array, found[0].float().numpy())


def softmax(logits: Float32Array) -> Float32Array:
    """Class probabilities (K, *tile) of what a network says."""
    return np.asarray(torch.from_numpy(logits).softmax(dim=0))
