"""A fit of Mixup-Privacy's server network to pairs of mixtures: ``L(S(z), m)`` alone."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from veilseg.contribution import ProtectedPair
from veilseg.networks.segmenter import Segmenter
from veilseg.training.losses import soft_target_loss
from veilseg.training.run import batch_size
from veilseg.training.stage import Stage


class MixtureExamples(Dataset[dict[str, Tensor]]):
    """Pairs by number; sites have augmented them, and a mixture must not be changed any more."""

    def __init__(self, pairs: Sequence[ProtectedPair], count: int, seed: int) -> None:
        self.pairs, self.count, self.seed = pairs, count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        passed, position = divmod(number, len(self.pairs))
        order = np.random.default_rng([self.seed, 20, passed]).permutation(len(self.pairs))
        pair = self.pairs[int(order[position])]
        return {
            "proxy": torch.from_numpy(pair.proxy.astype(np.float32)),
            "answer": torch.from_numpy(pair.answer.astype(np.float32)),
        }


class MixtureLoss(nn.Module):
    """Of the segmentation mixture."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        logits = self.segmenter(batch["proxy"])
        return soft_target_loss(logits, batch["answer"], batch.get("counted"))


def mixture_stage(
    segmenter: Segmenter,
    pairs: Sequence[ProtectedPair],
    tile_shape: tuple[int, ...],
    steps: int,
    seed: int,
    learning_rate: float,
) -> Stage:
    """The segmentation network and what it is fitted to."""
    size = batch_size(tile_shape)
    examples = MixtureExamples(pairs, steps * size, seed)
    loss = MixtureLoss(segmenter)
    return Stage("mapping", loss, examples, len(tile_shape), steps, size, learning_rate)
