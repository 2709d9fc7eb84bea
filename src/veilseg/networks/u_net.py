"""What both networks are made of: a U-Net at half resolution, and a light fine level.

Most of the time of a U-Net goes into its finest level: on a CPU those maps are moved through memory
more than they are computed with (decision 0011).
"""

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv
from monai.networks.nets import DynUNet
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from veilseg.networks.instance_norm import INSTANCE_NORM

# Of the fine level: more of them cost time in proportion.
FINE_FEATURES = 8


def context_network(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    filters: Sequence[int],
    first_stride: int,
) -> DynUNet:
    """MONAI's DynUNet; what comes out has 1 / ``first_stride`` of the resolution.

    Parameters
    ----------
    spatial_dims : int
        2 or 3.
    in_channels, out_channels : int
    filters : sequence of int
        Width per level; each level after the first halves the grid.
    first_stride : int
    """
    return DynUNet(
        spatial_dims,
        in_channels,
        out_channels,
        kernel_size=[3] * len(filters),
        strides=[first_stride] + [2] * (len(filters) - 1),
        upsample_kernel_size=[2] * (len(filters) - 1),
        filters=list(filters),
        norm_name=INSTANCE_NORM,
        res_block=False,
    )


class HalfResolutionUNet(nn.Module):
    """Maps to maps on the same grid; the context is seen at half resolution.

    Parameters
    ----------
    spatial_dims : int
        2 or 3.
    in_channels, out_channels : int
    filters : sequence of int
        Width per level, from half resolution on.
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, out_channels: int, filters: Sequence[int]
    ) -> None:
        super().__init__()
        conv, rise = Conv[Conv.CONV, spatial_dims], Conv[Conv.CONVTRANS, spatial_dims]
        both = 2 * FINE_FEATURES
        self.embed = conv(in_channels, FINE_FEATURES, 3, padding="same")
        self.context = context_network(
            spatial_dims, FINE_FEATURES, filters[0], filters, first_stride=2
        )
        self.rise = rise(filters[0], FINE_FEATURES, 2, 2)
        self.weigh = conv(both, both, 3, padding="same")
        self.decide = conv(both, out_channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, X, Y[, Z]) to (N, K, X, Y[, Z]); sizes are multiples of 2 to the levels."""
        fine = leaky_relu(self.embed(maps))
        around = leaky_relu(self.rise(self.context(fine)))
        result: Tensor = self.decide(leaky_relu(self.weigh(torch.cat([fine, around], dim=1))))
        return result
