"""The training loop: one, for every scheme, readable from top to bottom."""

import math
from collections.abc import Callable, Sized
from functools import partial
from pathlib import Path
from typing import cast

import torch
from lightning_fabric import Fabric

from veilseg.errors import TrainingDiverged
from veilseg.training.allocator import keep_freed_memory
from veilseg.training.checkpoint import load_checkpoint, save_checkpoint
from veilseg.training.convolution import right_gradients
from veilseg.training.loader import batches
from veilseg.training.optimizer import optimizers
from veilseg.training.stage import Stage

WARMUP_SHARE = 0.05
LARGEST_GRADIENT_NORM = 5.0
STEPS_PER_CHECKPOINT = 100


def fit(
    stage: Stage,
    seed: int,
    run: str,
    checkpoint: Path | None,
    resume: bool,
    progress: Callable[[int, float], None],
    fabric: Fabric,
) -> None:
    """Fit a stage end to end.

    Parameters
    ----------
    stage : Stage
        Its module is fitted in place. With fewer examples than its steps take, it is fitted as far
        as they go, and later from there: as a site does between two rounds with others.
    seed : int
    run : str
        Fingerprint that a checkpoint must carry to be gone on from.
    checkpoint : Path or None
        Written every 100 steps and where examples end; None: nothing is kept.
    resume : bool
        Go on from ``checkpoint`` where it exists.
    progress : callable
        Called with (steps done, smoothed loss).
    fabric : Fabric
        Of this process, launched. Each of several processes takes its part of a batch.

    Raises
    ------
    TrainingDiverged
        If the loss is no finite number. No step after that is written.
    """
    keep_freed_memory()
    torch.manual_seed(seed)
    layout = torch.channels_last_3d if stage.spatial_dims == 3 else torch.channels_last
    stage.module.to(memory_format=layout)  # type: ignore[call-overload]  # torch leaves this overload undeclared
    module = fabric.setup_module(stage.module)
    moved_by = optimizers(stage.module, stage.learning_rate)
    done = 0
    if resume and checkpoint is not None and checkpoint.is_file():
        done = load_checkpoint(checkpoint, stage.module, moved_by, run)
    part = fabric.global_rank, fabric.world_size
    prepare = None
    if stage.prepare is not None:
        prepare = partial(stage.prepare, steps=stage.steps, rank=fabric.global_rank)
    in_turn = fabric.device.type == "cpu"
    mine = batches(stage.examples, stage.batch, done, *part, prepare, in_turn)
    last = min(stage.steps, len(cast(Sized, stage.examples)) // stage.batch)
    smoothed = math.nan
    with right_gradients(stage.module):
        for step, batch in enumerate(mine, start=done):
            for optimizer in moved_by:
                for group in optimizer.param_groups:
                    group["lr"] = stage.learning_rate * learning_rate_factor(step, stage.steps)
            loss = module(fabric.to_device(batch))
            fabric.backward(loss)
            torch.nn.utils.clip_grad_norm_(module.parameters(), LARGEST_GRADIENT_NORM)
            for optimizer in moved_by:
                optimizer.step()
            module.zero_grad()
            mean = fabric.all_reduce(loss.detach(), reduce_op="mean")
            value = float(cast(torch.Tensor, mean))
            if not math.isfinite(value):
                kept = "what was written before it is kept: --resume goes on from there"
                after = "" if checkpoint is None else f"; {kept}"
                raise TrainingDiverged(f"step {step + 1}: the loss is {value}{after}")
            smoothed = value if math.isnan(smoothed) else 0.95 * smoothed + 0.05 * value
            progress(step + 1, smoothed)
            due = (step + 1) % STEPS_PER_CHECKPOINT == 0 or step + 1 == last
            if due and checkpoint is not None and fabric.is_global_zero:
                save_checkpoint(checkpoint, stage.module, moved_by, step + 1, run)


def learning_rate_factor(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to zero."""
    warmup = max(1, round(WARMUP_SHARE * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
