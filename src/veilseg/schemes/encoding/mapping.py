"""Stage 2 of Privacy-SF, at the server: encoded image → encoded mask, from encoded pairs alone.

Nothing here can read an image; an import contract says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss

from veilseg.networks.encoders import LinearMapping, Mapping, Maps
from veilseg.schemes.encoding.augmentation import SequenceAugmentation
from veilseg.schemes.encoding.pairs import EncodedExamples, EncodedPair
from veilseg.schemes.encoding.sequence import Layout
from veilseg.training.losses import mean_of_counted
from veilseg.training.stage import Stage

# Where the loss of a value turns from quadratic to linear; values have unit variance.
BEND = 0.5
# Tokens of the finest grid in a step; small tiles come in larger batches.
TOKENS_PER_STEP, LARGEST_BATCH = 13_000, 16
SMALLEST_DEVIATION = 1e-4


class SequenceMapping(nn.Module):
    """Sequence to sequence, (N, values) to (N, values): the server's network.

    Inside, every channel has mean 0 and variance 1 over the pairs that it is fitted to.

    Parameters
    ----------
    network : Module
        Of maps per level.
    image, mask : Layout
    """

    image_mean: Tensor
    image_deviation: Tensor
    mask_mean: Tensor
    mask_deviation: Tensor

    def __init__(self, network: nn.Module, image: Layout, mask: Layout) -> None:
        super().__init__()
        self.network, self.image, self.mask = network, image, mask
        for name, layout in (("image", image), ("mask", mask)):
            self.register_buffer(f"{name}_mean", torch.zeros(1, layout.values))
            self.register_buffer(f"{name}_deviation", torch.ones(1, layout.values))

    def forward(self, sequence: Tensor) -> Tensor:
        found = as_sequence(self.standardised(sequence))
        return found * self.mask_deviation + self.mask_mean

    def standardised(self, sequence: Tensor) -> Maps:
        """The encoded mask as it is fitted, of an encoded image as it is sent."""
        known = (sequence - self.image_mean) / self.image_deviation
        found: Maps = self.network(as_maps(known, self.image))
        return found

    def standardise(self, pairs: Sequence[EncodedPair]) -> None:
        """Take means and deviations from pairs."""
        for name, layout, sequences in (
            ("image", self.image, [pair.image for pair in pairs]),
            ("mask", self.mask, [pair.mask for pair in pairs]),
        ):
            tokens = list(layout.split(np.stack(sequences)))
            for what, of in (("mean", np.mean), ("deviation", np.std)):
                per_channel = [of(part, axis=(0, 1), dtype=np.float64) for part in tokens]
                spread = [
                    np.broadcast_to(v, p.shape[1:])
                    for v, p in zip(per_channel, tokens, strict=True)
                ]
                values = layout.joined(spread)
                if what == "deviation":
                    values = np.maximum(values, SMALLEST_DEVIATION)
                getattr(self, f"{name}_{what}").copy_(torch.from_numpy(values)[None])


class MappingLoss(nn.Module):
    """Smooth L1 of the encoded mask, each level by its mean."""

    def __init__(self, mapping: SequenceMapping) -> None:
        super().__init__()
        self.mapping = mapping

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        mapping = self.mapping
        found = mapping.standardised(batch["image"])
        mask = (batch["mask"] - mapping.mask_mean) / mapping.mask_deviation
        wanted = as_maps(mask, mapping.mask)
        losses = [
            mean_of_counted(
                smooth_l1_loss(one.float(), target, beta=BEND, reduction="none"),
                batch.get("counted"),
            )
            for one, target in zip(found, wanted, strict=True)
        ]
        return torch.stack(losses).sum()


@dataclass(frozen=True)
class MappingFit:
    """What a fit of the mapping network needs to know.

    Attributes
    ----------
    image, mask : Layout
    steps, seed : int
    learning_rate : float
    augmentation : SequenceAugmentation
    linear : bool
        The control: the best linear map of tokens instead of a network.
    """

    image: Layout
    mask: Layout
    steps: int
    seed: int
    learning_rate: float
    augmentation: SequenceAugmentation = field(default_factory=SequenceAugmentation)
    linear: bool = False

    def mapping(self) -> SequenceMapping:
        """The server's network, untrained."""
        dims = len(self.image.levels[0].grid)
        channels = [[level.channels for level in one.levels] for one in (self.image, self.mask)]
        kind = LinearMapping if self.linear else Mapping
        return SequenceMapping(kind(dims, *channels), self.image, self.mask)

    def stage(self, mapping: SequenceMapping, pairs: Sequence[EncodedPair]) -> Stage:
        """The mapping network and what it is fitted to."""
        mapping.standardise(pairs)
        tokens = self.image.levels[0].tokens
        batch = min(LARGEST_BATCH, max(1, round(TOKENS_PER_STEP / tokens)))
        count = self.steps * batch
        examples = EncodedExamples(
            pairs, self.image, self.mask, count, self.seed, self.augmentation
        )
        dims = len(self.image.levels[0].grid)
        loss = MappingLoss(mapping)
        return Stage("mapping", loss, examples, dims, self.steps, batch, self.learning_rate)


def as_maps(sequence: Tensor, layout: Layout) -> Maps:
    """(N, values) to (N, channels, *grid) per level."""
    maps, start = [], 0
    for level in layout.levels:
        part = sequence[:, start : start + level.values]
        maps.append(part.reshape(-1, *level.grid, level.channels).movedim(-1, 1))
        start += level.values
    return maps


def as_sequence(maps: Maps) -> Tensor:
    """(N, channels, *grid) per level to (N, values)."""
    return torch.cat([one.movedim(1, -1).flatten(1) for one in maps], dim=1)
