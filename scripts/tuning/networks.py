"""Variants that were tried and are not in the package; what the package has is imported from it."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu
from torch.optim import AdamW, Optimizer
from torch.utils.flop_counter import FlopCounterMode

from veilseg.networks.segmenter import Segmenter
from veilseg.networks.u_net import HalfResolutionUNet, context_network
from veilseg.training.optimizer import optimizers

ADAM_WEIGHT_DECAY = 1e-4
# Of a tile that is counted on: the deepest network leaves two voxels of it.
COUNTED_SIDE = 64


class RawContextUNet(HalfResolutionUNet):
    """The package's network before its context was fed by the fine level: it sees the raw image."""

    def __init__(self, dims: int, channels: int, outputs: int, filters: Sequence[int]) -> None:
        super().__init__(dims, channels, outputs, filters)
        self.context = context_network(dims, channels, filters[0], filters, first_stride=2)

    def forward(self, maps: Tensor) -> Tensor:
        fine, around = self.embed(maps), self.rise(self.context(maps))
        both = leaky_relu(torch.cat([fine, around], dim=1))
        result: Tensor = self.decide(leaky_relu(self.weigh(both)))
        return result


# Segmenters: (dims, channels, classes) to a network. `fine-48` is the package's.
SEGMENTERS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "full-16": lambda d, c, k: context_network(d, c, k, (16, 32, 64, 128), first_stride=1),
    "full-32": lambda d, c, k: context_network(d, c, k, (32, 64, 128, 128), first_stride=1),
    "raw-32": lambda d, c, k: RawContextUNet(d, c, k, (32, 64, 128)),
    "raw-48": lambda d, c, k: RawContextUNet(d, c, k, (48, 96, 192)),
    "fine-32": lambda d, c, k: HalfResolutionUNet(d, c, k, (32, 64, 128)),
    "fine-48": Segmenter,
    # A level more sees further, and two more.
    "fine-48-deep": lambda d, c, k: HalfResolutionUNet(d, c, k, (48, 96, 128, 128)),
    "fine-48-deeper": lambda d, c, k: HalfResolutionUNet(d, c, k, (48, 96, 128, 128, 128)),
    "fine-64": lambda d, c, k: HalfResolutionUNet(d, c, k, (64, 128, 192)),
}


def optimizers_of(name: str, network: nn.Module, learning_rate: float) -> list[Optimizer]:
    """`muon` as in the package, or `adam`: AdamW for every weight."""
    if name == "muon":
        return optimizers(network, learning_rate)
    return [AdamW(network.parameters(), lr=learning_rate, weight_decay=ADAM_WEIGHT_DECAY)]


def multiply_adds_per_voxel(name: str, dims: int, channels: int, classes: int) -> int:
    """Of a segmenter, counted without computing anything; the same for any tile."""
    with torch.device("meta"):
        network = SEGMENTERS[name](dims, channels, classes)
        tile = torch.empty(1, channels, *(COUNTED_SIDE,) * dims)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(tile)
    # The counter counts a multiplication and an addition as two.
    return round(counter.get_total_flops() / 2 / COUNTED_SIDE**dims)
