"""What a fit is given: encoded image and encoded mask, and nothing that they were made of."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from veilseg.contribution import ProtectedPair
from veilseg.schemes.encoding.augmentation import SequenceAugmentation
from veilseg.schemes.encoding.sequence import Layout


class EncodedExamples(Dataset[dict[str, Tensor]]):
    """Augmented pairs by number: every one is a pure function of the seed and its number.

    Parameters
    ----------
    pairs : sequence of ProtectedPair
    image, mask : Layout
    count, seed : int
    augmentation : SequenceAugmentation
    """

    def __init__(
        self,
        pairs: Sequence[ProtectedPair],
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
        other = int(rng.integers(len(self.pairs)))
        drawn = [self.pairs[order[position]]]
        # Where no second pair is used, the first stands for it: reading one takes time.
        drawn.append(self.pairs[other] if self.augmentation.mixes else drawn[0])
        images, masks = (
            [layout.grids(sequence.astype(np.float32)) for sequence in sequences]
            for layout, sequences in (
                (self.image, [pair.proxy for pair in drawn]),
                (self.mask, [pair.answer for pair in drawn]),
            )
        )
        image, mask = self.augmentation(images, masks, rng)
        return {
            name: torch.from_numpy(layout.sequence(grids))
            for name, layout, grids in (("image", self.image, image), ("mask", self.mask, mask))
        }
