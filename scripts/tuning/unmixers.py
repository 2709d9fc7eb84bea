"""Unmixing networks that were tried, the package's among them."""

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from veilseg.networks.u_net import FINE_FEATURES, HalfResolutionUNet, context_network
from veilseg.networks.unmixer import Unmixer

DILATIONS = (1, 2, 1)


class EarlierUnmixer(Unmixer):
    """A U-Net whose context is fed by a pointwise fine level; it is given a as a map, too."""

    def __init__(self, dims: int, channels: int, classes: int, filters: Sequence[int]) -> None:
        nn.Module.__init__(self)
        maps = 2 * classes + channels + 1
        self.network = HalfResolutionUNet(dims, maps, classes, filters)
        conv, both = Conv[Conv.CONV, dims], 2 * FINE_FEATURES
        self.network.embed = conv(maps, FINE_FEATURES, 1)
        self.network.weigh = conv(both, both, 1)

    def forward(
        self, answer: Tensor, reference_labels: Tensor, reference: Tensor, coefficient: Tensor
    ) -> Tensor:
        plane = coefficient.reshape(-1, *[1] * (answer.ndim - 1)).expand_as(answer[:, :1])
        reference = torch.cat([reference, plane], dim=1)
        return super().forward(answer, reference_labels, reference, coefficient)

    def correction(self, answer: Tensor, reference_labels: Tensor, reference: Tensor) -> Tensor:
        result: Tensor = self.network(torch.cat([answer, reference_labels, reference], dim=1))
        return result


class LogUnmixer(Unmixer):
    """The package's, given the logarithm of the answer as well."""

    def __init__(self, dims: int, channels: int, classes: int) -> None:
        super().__init__(dims, channels + classes, classes)

    def correction(self, answer: Tensor, reference_labels: Tensor, reference: Tensor) -> Tensor:
        # Scaled to about the range of the other inputs.
        logarithm = (answer + 1e-4).log() * 0.2 + 0.5
        more = torch.cat([reference, logarithm], dim=1)
        return super().correction(answer, reference_labels, more)


class BlindUnmixer(Unmixer):
    """The package's, which knows the reference by its labels alone."""

    def correction(self, answer: Tensor, reference_labels: Tensor, reference: Tensor) -> Tensor:
        return super().correction(answer, reference_labels, torch.zeros_like(reference))


class Convolutions(nn.Module):
    """A few convolutions of one width without norms, each but the first beside a short cut."""

    def __init__(self, dims: int, maps: int, width: int, more: int) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, dims]
        self.first = conv(maps, width, 3, padding="same")
        self.more = nn.ModuleList(
            conv(width, width, 3, padding="same", dilation=dilation)
            for dilation in DILATIONS[:more]
        )

    def forward(self, maps: Tensor) -> Tensor:
        features = leaky_relu(self.first(maps))
        for convolution in self.more:
            features = leaky_relu(features + convolution(features))
        return features


class PooledUnmixer(Unmixer):
    """The package's with another context, at 1 / ``pooled`` of the resolution.

    ``fine`` False: no pointwise level; what the context says is the correction.
    """

    def __init__(
        self,
        dims: int,
        channels: int,
        classes: int,
        pooled: int,
        context: nn.Module,
        width: int,
        fine: bool,
    ) -> None:
        super().__init__(dims, channels, classes)
        rise = Conv[Conv.CONVTRANS, dims]
        self.halve = Pool[Pool.AVG, dims](pooled)
        self.context = context
        self.rise = rise(width, FINE_FEATURES if fine else classes, pooled, pooled)
        self.fine = fine
        if not fine:
            del self.embed, self.decide

    def correction(self, answer: Tensor, reference_labels: Tensor, reference: Tensor) -> Tensor:
        if self.fine:
            return super().correction(answer, reference_labels, reference)
        maps = torch.cat([answer, reference_labels, reference], dim=1)
        result: Tensor = self.rise(self.context(self.halve(maps)))
        return result


def unmixer(name: str, dims: int, channels: int, classes: int) -> Unmixer | None:
    """By name; `pooled-12-24-48` is the package's, `none` leaves it to the algebra."""
    kinds, maps = (dims, channels, classes), 2 * classes + channels
    if name == "none":
        return None
    if name == "pooled-12-24-48":
        return Unmixer(*kinds)
    if name == "pooled-blind":
        return BlindUnmixer(*kinds)
    if name == "pooled-log":
        return LogUnmixer(*kinds)
    if name == "16-32-64":
        return EarlierUnmixer(*kinds, (16, 32, 64))
    if name == "coarse-16-32-48":
        context = context_network(dims, maps, 16, (16, 32, 48), first_stride=1)
        return PooledUnmixer(*kinds, 2, context, 16, fine=False)
    pooled, width, more, fine = {
        "quarter-24": (4, 24, 3, True),
        "quarter-48": (4, 48, 3, True),
        "coarse-quarter-24": (4, 24, 3, False),
        "coarse-half-12": (2, 12, 1, False),
    }[name]
    return PooledUnmixer(*kinds, pooled, Convolutions(dims, maps, width, more), width, fine)
