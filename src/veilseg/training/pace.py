"""How long a step takes, so that minutes can become steps."""

import time
from collections.abc import Sequence, Sized
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch.utils.data import Dataset

from veilseg.datasets.cases import PreparedCase
from veilseg.training.interface import SchemeTraining
from veilseg.training.loader import Batch
from veilseg.training.loop import fit
from veilseg.training.run import Run

# Steps that are timed to turn minutes into steps. The first ones of a process are slower, as is
# the first of another size: those do not count.
TIMED_STEPS = 16


def seconds_per_step(
    scheme: SchemeTraining, cases: Sequence[PreparedCase], run: Run, folder: Path, fabric: Fabric
) -> float:
    """Mean over all steps of a run, from a short trial of each stage."""
    # Half of the steps on parts of tiles, so that there are some of both kinds. Making a stage's
    # examples is not timed.
    recipe = replace(run.recipe, cropped_share=0.5)
    trial = replace(run, steps=TIMED_STEPS, recipe=recipe)
    path = folder / "timing.safetensors"
    state = torch.get_rng_state()
    half, share = TIMED_STEPS // 2, run.recipe.cropped_share
    of_stages = []
    for stage in deepcopy(scheme).stages(cases, trial, None):
        moments: list[float] = []
        number = TIMED_STEPS * stage.batch
        longer = replace(stage, steps=TIMED_STEPS, examples=_Repeated(stage.examples, number))
        fit(
            longer,
            run.seed,
            "",
            path,
            False,
            lambda done, loss, m=moments: m.append(time.perf_counter()),  # type: ignore[misc]  # noqa: ARG005 - one interface
            fabric,
        )
        of_parts = np.diff(moments[half // 2 : half]).mean()
        of_wholes = np.diff(moments[half:]).mean()
        of_stages.append((stage.steps, float(share * of_parts + (1 - share) * of_wholes)))
    total = sum(steps * seconds for steps, seconds in of_stages) / sum(s for s, _ in of_stages)
    torch.set_rng_state(state)
    path.unlink(missing_ok=True)
    return total


class _Repeated(Dataset[Batch]):
    """Examples again and again: a trial of a stage is longer than its share of it."""

    def __init__(self, examples: Dataset[Batch], count: int) -> None:
        self.examples, self.count = examples, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Batch:
        return self.examples[number % len(cast(Sized, self.examples))]
