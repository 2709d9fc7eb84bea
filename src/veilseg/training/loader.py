"""Examples by number to batches, in one process beside the training."""

from collections.abc import Sequence, Sized
from typing import cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

Batch = dict[str, Tensor]


def batches(
    examples: Dataset[Batch], size: int, step: int = 0, rank: int = 0, world_size: int = 1
) -> DataLoader[Batch]:
    """Batches from a step on.

    Parameters
    ----------
    examples : sized Dataset
        As many as whole batches have.
    size : int
        Examples per step, over all training processes.
    step : int
        The first step.
    rank, world_size : int
        Of several training processes, each takes its part of every batch. Where parts cannot be
        equal, the last ones are filled up with examples that do not count, for all processes have
        to take every step together: batches then have ``counted``, 1 or 0 for each example.
    """
    share = -(-size // world_size)
    places = range(rank * share, (rank + 1) * share)
    numbers = [
        first + min(place, size - 1)
        for first in range(step * size, len(cast(Sized, examples)), size)
        for place in places
    ]
    mine: Dataset[Batch] = Subset(examples, numbers)
    if size % world_size:
        mine = _Counted(mine, [float(place < size) for place in places])
    return DataLoader(
        mine,
        batch_size=share,
        num_workers=1,
        prefetch_factor=4,
        worker_init_fn=_one_thread,
    )


class _Counted(Dataset[Batch]):
    """Examples that say whether they count, the same in every batch."""

    def __init__(self, examples: Dataset[Batch], counted: Sequence[float]) -> None:
        self.examples, self.counted = examples, counted

    def __len__(self) -> int:
        return len(cast(Sized, self.examples))

    def __getitem__(self, number: int) -> Batch:
        counted = torch.tensor(self.counted[number % len(self.counted)])
        return self.examples[number] | {"counted": counted}


def _one_thread(worker: int) -> None:  # noqa: ARG001 - the loader passes its number
    torch.set_num_threads(1)
