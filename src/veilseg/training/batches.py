"""Batches for training: every example is a pure function of the seed and its number.

So a resumed run sees exactly what an unbroken run would have seen.
"""

import math
from collections.abc import Sequence, Sized
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from veilseg.datasets.cases import PreparedCase
from veilseg.training.augmentation import Augmentation
from veilseg.training.interface import Arrays, MakesExamples

# Voxels per optimiser step; small tiles come in larger batches.
VOXELS_PER_STEP = 200_000
LARGEST_BATCH = 16


class Examples(Dataset[dict[str, Tensor]]):
    """Augmented, protected, cropped examples by number."""

    def __init__(
        self,
        scheme: MakesExamples,
        cases: Sequence[PreparedCase],
        tile_shape: tuple[int, ...],
        count: int,
        seed: int,
        augment: bool = True,
        spacing: Sequence[float] | None = None,
    ) -> None:
        self.scheme, self.cases, self.tile_shape = scheme, cases, tile_shape
        self.count, self.seed = count, seed
        self.augmentation = Augmentation(len(tile_shape), spacing) if augment else None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        # A fresh permutation per pass, so that every case is used equally often.
        passed, position = divmod(number, len(self.cases))
        order = np.random.default_rng([self.seed, 0, passed]).permutation(len(self.cases))
        case = self.cases[order[position]]
        rng = np.random.default_rng([self.seed, 1, number])
        if self.augmentation is not None:
            image, labels = self.augmentation(case.image, case.labels, rng)
            case = PreparedCase(case.name, case.patient, image, labels)
        arrays = self.scheme.example(case, rng)
        return self._cropped(arrays, case.labels.shape, rng)

    def _cropped(
        self, arrays: Arrays, shape: tuple[int, ...], rng: np.random.Generator
    ) -> dict[str, Tensor]:
        corner = [
            int(rng.integers(size - tile + 1))
            for size, tile in zip(shape, self.tile_shape, strict=True)
        ]
        window: tuple[Any, ...] = tuple(
            slice(start, start + tile) for start, tile in zip(corner, self.tile_shape, strict=True)
        )
        return {
            name: torch.from_numpy(np.ascontiguousarray(array[(Ellipsis, *window)]))
            if array.ndim
            else torch.tensor(float(array))
            for name, array in arrays.items()
        }


def batch_size(tile_shape: tuple[int, ...]) -> int:
    """Examples per step, for about the same work at any tile shape."""
    return min(LARGEST_BATCH, max(1, round(VOXELS_PER_STEP / math.prod(tile_shape))))


def batches(
    examples: Examples, size: int, step: int = 0, rank: int = 0, world_size: int = 1
) -> DataLoader[dict[str, Tensor]]:
    """Batches from a step on, made in one process beside the training.

    Parameters
    ----------
    examples : Examples
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
        for first in range(step * size, len(examples), size)
        for place in places
    ]
    mine: Dataset[dict[str, Tensor]] = Subset(examples, numbers)
    if size % world_size:
        mine = _Counted(mine, [float(place < size) for place in places])
    return DataLoader(
        mine,
        batch_size=share,
        num_workers=1,
        prefetch_factor=4,
        worker_init_fn=_one_thread,
    )


class _Counted(Dataset[dict[str, Tensor]]):
    """Examples that say whether they count, the same in every batch."""

    def __init__(self, examples: Dataset[dict[str, Tensor]], counted: Sequence[float]) -> None:
        self.examples, self.counted = examples, counted

    def __len__(self) -> int:
        return len(cast(Sized, self.examples))

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        counted = torch.tensor(self.counted[number % len(self.counted)])
        return self.examples[number] | {"counted": counted}


def _one_thread(worker: int) -> None:  # noqa: ARG001 - the loader passes its number
    torch.set_num_threads(1)
