"""Examples for training: every one is a pure function of the seed and its number.

So a resumed run sees exactly what an unbroken run would have seen.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from veilseg.datasets.cases import PreparedCase
from veilseg.training.augmentation import Augmentation
from veilseg.training.examples import Arrays, MakesExamples


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
