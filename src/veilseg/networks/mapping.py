"""Networks of Privacy-SF's server, encoded image to encoded mask."""

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn

from veilseg.networks.encodings import Block, Maps

# Quarter, eighth and sixteenth. The most that a bundle of 6 MB has room for.
MAPPING_WIDTHS = (72, 96, 112)
GROUPS = 8


class Mapping(nn.Module):
    """Encoded image to encoded mask: a U-Net from a quarter to a sixteenth of the resolution.

    Parameters
    ----------
    spatial_dims : int
    image_channels, mask_channels : (fine, coarse)
    """

    def __init__(
        self, spatial_dims: int, image_channels: Sequence[int], mask_channels: Sequence[int]
    ) -> None:
        super().__init__()
        dims = spatial_dims
        conv, rise = Conv[Conv.CONV, dims], Conv[Conv.CONVTRANS, dims]
        quarter, eighth, sixteenth = MAPPING_WIDTHS
        self.at_quarter = nn.Sequential(
            Block(dims, image_channels[0], quarter), Block(dims, quarter, quarter)
        )
        self.to_eighth = Block(dims, quarter, eighth, 2)
        self.at_eighth = nn.Sequential(
            Block(dims, eighth + image_channels[1], eighth), Block(dims, eighth, eighth)
        )
        # Not by a stride: on a CPU with bf16, torch 2.13 then reads what nobody wrote where two
        # tokens become one.
        halve = Pool[Pool.AVG, dims](2, ceil_mode=True)
        self.at_sixteenth = nn.Sequential(
            halve,
            Block(dims, eighth, sixteenth, groups=GROUPS),
            Block(dims, sixteenth, sixteenth, groups=GROUPS),
        )
        self.from_sixteenth = rise(sixteenth, eighth, 2, 2)
        self.at_eighth_again = Block(dims, 2 * eighth, eighth)
        self.from_eighth = rise(eighth, quarter, 2, 2)
        self.at_quarter_again = nn.Sequential(
            Block(dims, 2 * quarter, quarter), Block(dims, quarter, quarter)
        )
        self.fine = conv(quarter, mask_channels[0], 1)
        self.coarse = conv(eighth, mask_channels[1], 1)

    def forward(self, encoding: Maps) -> Maps:
        fine, coarse = encoding
        quarter = self.at_quarter(fine)
        eighth = self.at_eighth(torch.cat([self.to_eighth(quarter), coarse], dim=1))
        below = _cut(self.from_sixteenth(self.at_sixteenth(eighth)), eighth)
        eighth = self.at_eighth_again(torch.cat([below, eighth], dim=1))
        below = _cut(self.from_eighth(eighth), quarter)
        quarter = self.at_quarter_again(torch.cat([below, quarter], dim=1))
        return [self.fine(quarter), self.coarse(eighth)]


class LinearMapping(nn.Module):
    """The control: every token of the mask as a linear function of the image's tokens around it."""

    def __init__(
        self, spatial_dims: int, image_channels: Sequence[int], mask_channels: Sequence[int]
    ) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        rise, fall = Conv[Conv.CONVTRANS, spatial_dims], Conv[Conv.CONV, spatial_dims]
        both = sum(image_channels)
        self.up = rise(image_channels[1], image_channels[1], 2, 2)
        self.down = fall(image_channels[0], image_channels[0], 2, 2)
        self.fine, self.coarse = (conv(both, count, 3, padding=1) for count in mask_channels)

    def forward(self, encoding: Maps) -> Maps:
        fine, coarse = encoding
        return [
            self.fine(torch.cat([fine, self.up(coarse)], dim=1)),
            self.coarse(torch.cat([self.down(fine), coarse], dim=1)),
        ]


def _cut(maps: Tensor, like: Tensor) -> Tensor:
    """To the grid of another: a side that is no multiple of two comes back one longer."""
    for axis in range(2, maps.ndim):
        maps = maps.narrow(axis, 0, like.shape[axis])
    return maps
