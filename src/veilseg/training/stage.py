"""A part of a training that is fitted as a whole; most schemes have one."""

from dataclasses import dataclass
from typing import Protocol

from torch import nn
from torch.utils.data import Dataset

from veilseg.training.loader import Batch


class Prepare(Protocol):
    """What is done to each batch, in the process that makes it; can be pickled."""

    def __call__(self, batch: Batch, step: int, *, steps: int, rank: int) -> Batch:
        """A batch of this training process, by the step and the stage's steps."""
        ...


@dataclass(frozen=True)
class Stage:
    """What is fitted to what.

    Attributes
    ----------
    name : str
        Of its checkpoint; empty for the only or first one.
    module : Module
        Its ``forward`` gives the loss of a batch. Only its own parameters are moved.
    examples : sized Dataset
        As many as all steps take.
    spatial_dims, steps, batch : int
    learning_rate : float
        At the end of the warm-up.
    prepare : callable or None
        What is done to each batch.
    """

    name: str
    module: nn.Module
    examples: Dataset[Batch]
    spatial_dims: int
    steps: int
    batch: int
    learning_rate: float
    prepare: Prepare | None = None
