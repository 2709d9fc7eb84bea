"""Fit and run an attacker's network: the package's optimizer and schedule, any loss."""

import math
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from veilseg.audit.laws import Law
from veilseg.datasets.cases import PreparedCase
from veilseg.errors import TrainingDiverged
from veilseg.payload import Float32Array
from veilseg.training.allocator import keep_freed_memory
from veilseg.training.batches import Examples, batches
from veilseg.training.loop import LARGEST_GRADIENT_NORM, learning_rate_factor
from veilseg.training.optimizer import optimizers
from veilseg.training.processes import launch

LEARNING_RATE = 8e-3

Batch = dict[str, Tensor]
Loss = Callable[[nn.Module, Batch], Tensor]
Progress = Callable[[int, int], None]


def fit(
    network: nn.Module,
    law: Law,
    cases: Sequence[PreparedCase],
    tile_shape: tuple[int, ...],
    loss: Loss,
    steps: int,
    batch: int,
    seed: int,
    progress: Progress,
    augment: bool = True,
) -> None:
    """Fit a network in place to fresh proxies of an attacker's own cases.

    Parameters
    ----------
    network : Module
    law : Law
    cases : sequence of PreparedCase
    tile_shape : tuple of int
    loss : callable
        Of network and batch.
    steps, batch, seed : int
    progress : callable
        Called with (steps done, steps).
    augment : bool

    Raises
    ------
    TrainingDiverged
        If the loss is no finite number.
    """
    keep_freed_memory()
    fabric = launch()
    layout = torch.channels_last_3d if len(tile_shape) == 3 else torch.channels_last
    network.to(memory_format=layout)  # type: ignore[call-overload]  # torch leaves this overload undeclared
    moved_by = optimizers(network, LEARNING_RATE)
    examples = Examples(law, cases, tile_shape, steps * batch, seed, augment)
    for step, given in enumerate(batches(examples, batch)):
        for optimizer in moved_by:
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * learning_rate_factor(step, steps)
        with fabric.autocast():
            value = loss(network, given)
        fabric.backward(value)
        torch.nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT_NORM)
        for optimizer in moved_by:
            optimizer.step()
        network.zero_grad()
        if not math.isfinite(float(value.detach())):
            raise TrainingDiverged(f"step {step + 1}: an attacker's loss is no number")
        progress(step + 1, steps)


@torch.no_grad()
def run(network: nn.Module, maps: Float32Array) -> Float32Array:
    """One tile (C, X, Y[, Z]) through a network."""
    with launch().autocast():
        found = network(torch.from_numpy(np.ascontiguousarray(maps))[None])
    return cast(Float32Array, found[0].float().numpy())
