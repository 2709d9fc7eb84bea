"""The training loop: one, for every scheme, readable from top to bottom."""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

import torch
from lightning_fabric import Fabric

from veilseg.datasets.cases import PreparedCase
from veilseg.errors import TrainingDiverged
from veilseg.training.allocator import keep_freed_memory
from veilseg.training.batches import Examples, batches
from veilseg.training.checkpoint import load_checkpoint, save_checkpoint
from veilseg.training.crops import cropped
from veilseg.training.interface import SchemeTraining
from veilseg.training.optimizer import optimizers
from veilseg.training.recipe import Recipe

WARMUP_SHARE = 0.05
LARGEST_GRADIENT_NORM = 5.0
STEPS_PER_CHECKPOINT = 100


@dataclass(frozen=True)
class Run:
    """What defines a run: with the same data, the same run gives the same weights."""

    scheme: str
    steps: int
    seed: int
    batch: int
    tile_shape: tuple[int, ...]
    data_sha256: str
    recipe: Recipe = field(default_factory=Recipe)
    init: str = ""  # id of the bundle whose weights it starts from
    fold: str = ""  # as 2/5; empty for the default split

    def fingerprint(self) -> str:
        """Short hash that a checkpoint must carry to be resumed by this run."""
        fields = {name: value for name, value in asdict(self).items() if value != ""}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]


def fit(
    scheme: SchemeTraining,
    cases: Sequence[PreparedCase],
    run: Run,
    checkpoint: Path,
    resume: bool,
    progress: Callable[[int, float], None],
    fabric: Fabric,
    spacing: Sequence[float] | None = None,
) -> None:
    """Fit both halves of a scheme end to end.

    Parameters
    ----------
    scheme : SchemeTraining
        Fitted in place.
    cases : sequence of PreparedCase
        Training cases.
    run : Run
    checkpoint : Path
        Written every 100 steps and at the end.
    resume : bool
        Go on from ``checkpoint`` where it exists.
    progress : callable
        Called with (steps done, smoothed loss).
    fabric : Fabric
        Of this process, launched. Each of several processes takes its part of a batch.
    spacing : sequence of float or None
        Of the cases' voxels; None: as wide along every axis.

    Raises
    ------
    TrainingDiverged
        If the loss is no finite number. No step after that is written.
    """
    keep_freed_memory()
    torch.manual_seed(run.seed)
    recipe = run.recipe
    layout = torch.channels_last_3d if len(run.tile_shape) == 3 else torch.channels_last
    scheme.to(memory_format=layout)  # type: ignore[call-overload]  # torch leaves this overload undeclared
    module = fabric.setup_module(scheme)
    moved_by = optimizers(scheme, recipe.learning_rate)
    done = 0
    if resume and checkpoint.is_file():
        done = load_checkpoint(checkpoint, scheme, moved_by, run.fingerprint())
    examples = Examples(
        scheme, cases, run.tile_shape, run.steps * run.batch, run.seed, spacing=spacing
    )
    mine = batches(examples, run.batch, done, fabric.global_rank, fabric.world_size)
    smoothed = math.nan
    for step, batch in enumerate(mine, start=done):
        for optimizer in moved_by:
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * learning_rate_factor(step, run.steps)
        if step < recipe.cropped_share * run.steps:
            batch = cropped(batch, run.tile_shape, step, run.seed)
        loss = module(fabric.to_device(batch))
        fabric.backward(loss)
        torch.nn.utils.clip_grad_norm_(module.parameters(), LARGEST_GRADIENT_NORM)
        for optimizer in moved_by:
            optimizer.step()
        module.zero_grad()
        mean = fabric.all_reduce(loss.detach(), reduce_op="mean")
        value = float(cast(torch.Tensor, mean))
        if not math.isfinite(value):
            raise TrainingDiverged(
                f"step {step + 1}: the loss is {value}; what was written before it is kept: "
                "--resume goes on from there"
            )
        smoothed = value if math.isnan(smoothed) else 0.95 * smoothed + 0.05 * value
        progress(step + 1, smoothed)
        due = (step + 1) % STEPS_PER_CHECKPOINT == 0 or step + 1 == run.steps
        if due and fabric.is_global_zero:
            save_checkpoint(checkpoint, scheme, moved_by, step + 1, run.fingerprint())


def learning_rate_factor(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to zero."""
    warmup = max(1, round(WARMUP_SHARE * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
