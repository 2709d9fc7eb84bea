"""The training loop: one, for every scheme, readable from top to bottom."""

import hashlib
import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch.optim import AdamW

from veilseg.datasets.cases import PreparedCase
from veilseg.training.batches import Examples, batches
from veilseg.training.checkpoint import load_checkpoint, save_checkpoint, training_precision
from veilseg.training.interface import SchemeTraining

LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-4
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
    init: str = ""  # id of the bundle whose weights it starts from

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
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    fabric = Fabric(accelerator="auto", devices=1, precision=training_precision())
    torch.manual_seed(run.seed)
    if len(run.tile_shape) == 3:
        scheme.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # torch leaves this overload undeclared
    optimizer = AdamW(scheme.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    done = 0
    if resume and checkpoint.is_file():
        done = load_checkpoint(checkpoint, scheme, optimizer, run.fingerprint())
    module, optimizer = fabric.setup(scheme, optimizer)
    examples = Examples(scheme, cases, run.tile_shape, run.steps * run.batch, run.seed)
    smoothed = math.nan
    for step, batch in enumerate(batches(examples, run.batch, first=done * run.batch), start=done):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * learning_rate_factor(step, run.steps)
        loss = module(fabric.to_device(batch))
        fabric.backward(loss)
        fabric.clip_gradients(module, optimizer, max_norm=LARGEST_GRADIENT_NORM)
        optimizer.step()
        optimizer.zero_grad()
        value = float(loss.detach())
        smoothed = value if math.isnan(smoothed) else 0.95 * smoothed + 0.05 * value
        progress(step + 1, smoothed)
        if (step + 1) % STEPS_PER_CHECKPOINT == 0 or step + 1 == run.steps:
            save_checkpoint(checkpoint, scheme, optimizer, step + 1, run.fingerprint())


def learning_rate_factor(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to zero."""
    warmup = max(1, round(WARMUP_SHARE * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
