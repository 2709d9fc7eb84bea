"""Stage 2 of Privacy-SF, at the server: encoded image → encoded mask, from encoded pairs alone.

Nothing here can read an image; an import contract says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss

from veilseg.contribution import ProtectedPair
from veilseg.networks.encodings import Maps, Units
from veilseg.networks.mapping import LinearMapping, Mapping
from veilseg.schemes.encoding.augmentation import SequenceAugmentation
from veilseg.schemes.encoding.pairs import EncodedExamples
from veilseg.schemes.encoding.sequence import Layout
from veilseg.training.losses import mean_of_counted
from veilseg.training.stage import Stage

# Where the loss of a token turns from quadratic to linear, in deviations of a value.
BEND = 0.5
NO_TOKEN = 1e-12  # a difference of nothing has no direction
# Tokens of the finest grid in a step; small tiles come in larger batches.
TOKENS_PER_STEP, LARGEST_BATCH = 13_000, 16
MEASURED = 100  # pairs from which means and deviations are taken


class SequenceMapping(nn.Module):
    """Sequence to sequence, (N, values) to (N, values): the server's network.

    Inside, every channel has mean 0 and every level variance 1 over the pairs that it is fitted to:
    whatever basis a key turns tokens to, it sees as much of them.

    Parameters
    ----------
    network : Module
        Of maps per level.
    image, mask : Layout
    """

    def __init__(self, network: nn.Module, image: Layout, mask: Layout) -> None:
        super().__init__()
        self.network, self.image, self.mask = network, image, mask
        self.image_units, self.mask_units = _units(image), _units(mask)

    def forward(self, sequence: Tensor) -> Tensor:
        return as_sequence(self.mask_units.back(self.standardised(sequence)))

    def standardised(self, sequence: Tensor) -> Maps:
        """The encoded mask as it is fitted, of an encoded image as it is sent."""
        known = self.image_units.scaled(as_maps(sequence, self.image))
        found: Maps = self.network(known)
        return found

    def standardise(self, pairs: Sequence[ProtectedPair]) -> None:
        """Take means and deviations from pairs: as many as are enough."""
        some = pairs[:: -(-len(pairs) // MEASURED)]
        for units, layout, sequences in (
            (self.image_units, self.image, [pair.proxy for pair in some]),
            (self.mask_units, self.mask, [pair.answer for pair in some]),
        ):
            made = [
                as_maps(torch.from_numpy(one.astype(np.float32))[None], layout) for one in sequences
            ]
            units.measure(made, turned=True)


class MappingLoss(nn.Module):
    """Smooth L1 of the encoded mask's tokens, each level by its mean; the same in any basis."""

    def __init__(self, mapping: SequenceMapping) -> None:
        super().__init__()
        self.mapping = mapping

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        mapping = self.mapping
        found = mapping.standardised(batch["image"])
        wanted = mapping.mask_units.scaled(as_maps(batch["mask"], mapping.mask))
        losses = [
            mean_of_counted(_smooth_l1(one.float() - target), batch.get("counted"))
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

    @property
    def batch(self) -> int:
        """Pairs in a step."""
        tokens = self.image.levels[0].tokens
        return min(LARGEST_BATCH, max(1, round(TOKENS_PER_STEP / tokens)))

    def mapping(self) -> SequenceMapping:
        """The server's network, untrained."""
        dims = len(self.image.levels[0].grid)
        channels = [[level.channels for level in one.levels] for one in (self.image, self.mask)]
        kind = LinearMapping if self.linear else Mapping
        return SequenceMapping(kind(dims, *channels), self.image, self.mask)

    def stage(self, mapping: SequenceMapping, pairs: Sequence[ProtectedPair]) -> Stage:
        """The mapping network and what it is fitted to."""
        mapping.standardise(pairs)
        count = self.steps * self.batch
        examples = EncodedExamples(
            pairs, self.image, self.mask, count, self.seed, self.augmentation
        )
        dims = len(self.image.levels[0].grid)
        loss = MappingLoss(mapping)
        return Stage("mapping", loss, examples, dims, self.steps, self.batch, self.learning_rate)


def _smooth_l1(off: Tensor) -> Tensor:
    """Of each token, by its root mean square: (N, C, *grid) to (N, *grid)."""
    size = (off.square().mean(dim=1) + NO_TOKEN).sqrt()
    return smooth_l1_loss(size, torch.zeros_like(size), beta=BEND, reduction="none")


def _units(layout: Layout) -> Units:
    return Units(len(layout.levels[0].grid), [level.channels for level in layout.levels])


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
