"""What sites give to a fit: encoded image and encoded mask, and nothing that they were made of."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from veilseg.schemes.encoding.augmentation import SequenceAugmentation
from veilseg.schemes.encoding.sequence import Layout


@dataclass(frozen=True)
class EncodedPair:
    """One tile of one case.

    Attributes
    ----------
    image, mask : ndarray, shape (values,), float16
        Sequences as they are sent, in the key's basis where there is a key.
    """

    image: NDArray[np.float16]
    mask: NDArray[np.float16]


class EncodedExamples(Dataset[dict[str, Tensor]]):
    """Augmented pairs by number: every one is a pure function of the seed and its number.

    Parameters
    ----------
    pairs : sequence of EncodedPair
    image, mask : Layout
    count, seed : int
    augmentation : SequenceAugmentation
    """

    def __init__(
        self,
        pairs: Sequence[EncodedPair],
        image: Layout,
        mask: Layout,
        count: int,
        seed: int,
        augmentation: SequenceAugmentation,
    ) -> None:
        self.pairs, self.image, self.mask = pairs, image, mask
        self.count, self.seed, self.augmentation = count, seed, augmentation

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        passed, position = divmod(number, len(self.pairs))
        order = np.random.default_rng([self.seed, 20, passed]).permutation(len(self.pairs))
        rng = np.random.default_rng([self.seed, 21, number])
        drawn = [self.pairs[order[position]], self.pairs[int(rng.integers(len(self.pairs)))]]
        images, masks = (
            [layout.grids(sequence.astype(np.float32)) for sequence in sequences]
            for layout, sequences in (
                (self.image, [pair.image for pair in drawn]),
                (self.mask, [pair.mask for pair in drawn]),
            )
        )
        image, mask = self.augmentation(images, masks, rng)
        return {
            name: torch.from_numpy(layout.sequence(grids))
            for name, layout, grids in (("image", self.image, image), ("mask", self.mask, mask))
        }
