"""Networks of Privacy-SF: encoders and decoders of the sites, the server's mapping network.

An encoding is maps at a quarter and at an eighth of the resolution (``encoding.sequence``).
"""

from collections.abc import Iterator, Sequence

import torch
from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from veilseg.networks.instance_norm import InstanceNorm

# Full, half, quarter and eighth of the resolution. Light at the fine ones: sites have no GPU.
ENCODER_WIDTHS = (12, 32, 64)
DECODER_WIDTHS = (8, 12, 24, 48)
# Quarter, eighth and sixteenth. The most that a bundle of 6 MB has room for.
MAPPING_WIDTHS = (72, 96, 112)
GROUPS = 8
SMALLEST_DEVIATION = 1e-3

Maps = list[Tensor]


class Units(nn.Module):
    """In what an encoding's channels are measured: mean 0 and variance 1 once that is known.

    Nothing in an autoencoder holds its values to any range, but sixteen bits do on the wire, and a
    key's shift has to be as large as they are.

    Parameters
    ----------
    spatial_dims : int
    channels : (fine, coarse)
    """

    def __init__(self, spatial_dims: int, channels: Sequence[int]) -> None:
        super().__init__()
        for level, count in enumerate(channels):
            shape = (1, count, *[1] * spatial_dims)
            self.register_buffer(f"mean{level}", torch.zeros(shape))
            self.register_buffer(f"deviation{level}", torch.ones(shape))

    def scaled(self, maps: Maps) -> Maps:
        """Into these units."""
        return [(one - mean) / deviation for one, (mean, deviation) in self._with(maps)]

    def back(self, maps: Maps) -> Maps:
        """Out of them."""
        return [one * deviation + mean for one, (mean, deviation) in self._with(maps)]

    @torch.no_grad()
    def measure(self, made: Sequence[Maps]) -> None:
        """Take means and deviations from some encodings that are in no units yet."""
        for level, of_all in enumerate(zip(*made, strict=True)):
            values = torch.stack([maps.double() for maps in of_all])
            axes = [0, 1, *range(3, values.ndim)]
            deviation, mean = torch.std_mean(values, axes, correction=0, keepdim=True)
            getattr(self, f"mean{level}").copy_(mean[0])
            getattr(self, f"deviation{level}").copy_(deviation[0].clamp(min=SMALLEST_DEVIATION))

    def _with(self, maps: Maps) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor]]]:
        for level, one in enumerate(maps):
            yield one, (getattr(self, f"mean{level}"), getattr(self, f"deviation{level}"))


@torch.no_grad()
def measure_units(
    encoder: "Encoder", decoders: Sequence["Decoder"], given: Sequence[Tensor]
) -> None:
    """Take an encoder's units from what it makes of some maps, and tell its decoders.

    Parameters
    ----------
    encoder : Encoder
    decoders : sequence of Decoder
    given : sequence of Tensor, shape (1, C, *tile)
    """
    encoder.units.measure([encoder.units.back(encoder(maps)) for maps in given])
    for decoder in decoders:
        decoder.units.load_state_dict(encoder.units.state_dict())


class Encoder(nn.Module):
    """Maps of a tile to its encoding: (N, C, *tile) to one (N, C_l, *grid) per level.

    Parameters
    ----------
    spatial_dims, in_channels : int
    channels : (fine, coarse)
        Of the encoding.
    norm : bool
        Instance norms make an image's contrast count less; a mask's size has to count.
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, channels: Sequence[int], norm: bool
    ) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        half, quarter, eighth = ENCODER_WIDTHS
        self.at_quarter = nn.Sequential(
            _Block(spatial_dims, in_channels, half, 2, norm),
            _Block(spatial_dims, half, half, 1, norm),
            _Block(spatial_dims, half, quarter, 2, norm),
            _Block(spatial_dims, quarter, quarter, 1, norm),
        )
        self.at_eighth = nn.Sequential(
            _Block(spatial_dims, quarter, eighth, 2, norm),
            _Block(spatial_dims, eighth, eighth, 1, norm),
        )
        self.fine, self.coarse = conv(quarter, channels[0], 1), conv(eighth, channels[1], 1)
        self.units = Units(spatial_dims, channels)

    def forward(self, maps: Tensor) -> Maps:
        quarter = self.at_quarter(maps)
        return self.units.scaled([self.fine(quarter), self.coarse(self.at_eighth(quarter))])


class Decoder(nn.Module):
    """An encoding to maps of the tile: the reverse of :class:`Encoder`.

    Parameters
    ----------
    spatial_dims : int
    channels : (fine, coarse)
    out_channels : int
    widths : tuple of int
        At full, half, quarter and eighth of the resolution.
    """

    def __init__(
        self,
        spatial_dims: int,
        channels: Sequence[int],
        out_channels: int,
        widths: tuple[int, int, int, int] = DECODER_WIDTHS,
    ) -> None:
        super().__init__()
        conv, rise = Conv[Conv.CONV, spatial_dims], Conv[Conv.CONVTRANS, spatial_dims]
        full, half, quarter, eighth = widths
        self.to_quarter = rise(channels[1], eighth, 2, 2)
        self.at_quarter = _Block(spatial_dims, eighth + channels[0], quarter)
        self.to_half = rise(quarter, half, 2, 2)
        self.at_half = _Block(spatial_dims, half, half)
        self.to_full = rise(half, full, 2, 2)
        self.decide = conv(full, out_channels, 1)
        self.units = Units(spatial_dims, channels)

    def forward(self, encoding: Maps) -> Tensor:
        fine, coarse = self.units.back(encoding)
        maps = self.at_quarter(torch.cat([leaky_relu(self.to_quarter(coarse)), fine], dim=1))
        maps = self.at_half(leaky_relu(self.to_half(maps)))
        result: Tensor = self.decide(leaky_relu(self.to_full(maps)))
        return result


class ClientAlone(nn.Module):
    """The control ``local``: encoder and decoder as a site has them, segmenting without a server.

    Parameters
    ----------
    spatial_dims, in_channels : int
    channels : (fine, coarse)
        Between the two.
    classes : int
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, channels: Sequence[int], classes: int
    ) -> None:
        super().__init__()
        self.encoder = Encoder(spatial_dims, in_channels, channels, norm=True)
        self.decoder = Decoder(spatial_dims, channels, classes)

    def forward(self, image: Tensor) -> Tensor:
        found: Tensor = self.decoder(self.encoder(image))
        return found


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
            _Block(dims, image_channels[0], quarter), _Block(dims, quarter, quarter)
        )
        self.to_eighth = _Block(dims, quarter, eighth, 2)
        self.at_eighth = nn.Sequential(
            _Block(dims, eighth + image_channels[1], eighth), _Block(dims, eighth, eighth)
        )
        # Not by a stride: on a CPU with bf16, torch 2.13 then reads what nobody wrote where two
        # tokens become one.
        halve = Pool[Pool.AVG, dims](2, ceil_mode=True)
        self.at_sixteenth = nn.Sequential(
            halve,
            _Block(dims, eighth, sixteenth, groups=GROUPS),
            _Block(dims, sixteenth, sixteenth, groups=GROUPS),
        )
        self.from_sixteenth = rise(sixteenth, eighth, 2, 2)
        self.at_eighth_again = _Block(dims, 2 * eighth, eighth)
        self.from_eighth = rise(eighth, quarter, 2, 2)
        self.at_quarter_again = nn.Sequential(
            _Block(dims, 2 * quarter, quarter), _Block(dims, quarter, quarter)
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


class _Block(nn.Module):
    """Convolution of three voxels a side, norm, leaky ReLU.

    Instance norm, or group norm where a grid may be a single token; none with ``norm=False``.
    """

    def __init__(
        self,
        spatial_dims: int,
        source: int,
        width: int,
        stride: int = 1,
        norm: bool = True,
        groups: int | None = None,
    ) -> None:
        super().__init__()
        self.conv = Conv[Conv.CONV, spatial_dims](source, width, 3, stride=stride, padding=1)
        self.norm: nn.Module = nn.Identity()
        if norm and groups is None:
            self.norm = InstanceNorm(width)
        elif norm:
            self.norm = nn.GroupNorm(groups or 1, width)

    def forward(self, maps: Tensor) -> Tensor:
        return leaky_relu(self.norm(self.conv(maps)))


def _cut(maps: Tensor, like: Tensor) -> Tensor:
    """To the grid of another: a side that is no multiple of two comes back one longer."""
    for axis in range(2, maps.ndim):
        maps = maps.narrow(axis, 0, like.shape[axis])
    return maps
