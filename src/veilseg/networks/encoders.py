"""Networks of Privacy-SF's sites: encoders and decoders."""

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from veilseg.networks.encodings import Block, Maps, Units

# Half, quarter and eighth of the resolution. Light at the fine ones: sites have no GPU.
ENCODER_WIDTHS = (12, 32, 64)
# Full, half, quarter and eighth.
DECODER_WIDTHS = (8, 12, 24, 36)


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

    Its features, from half of the resolution on, are what the encoding is taken from.

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
        self.at_half = nn.Sequential(
            Block(spatial_dims, in_channels, half, 2, norm),
            Block(spatial_dims, half, half, 1, norm),
        )
        self.at_quarter = nn.Sequential(
            Block(spatial_dims, half, quarter, 2, norm),
            Block(spatial_dims, quarter, quarter, 1, norm),
        )
        self.at_eighth = nn.Sequential(
            Block(spatial_dims, quarter, eighth, 2, norm),
            Block(spatial_dims, eighth, eighth, 1, norm),
        )
        self.fine, self.coarse = conv(quarter, channels[0], 1), conv(eighth, channels[1], 1)
        self.units = Units(spatial_dims, channels)

    def forward(self, maps: Tensor) -> Maps:
        return self.encoded(self.features(maps))

    def features(self, maps: Tensor) -> Maps:
        """At half, quarter and eighth of the resolution."""
        half = self.at_half(maps)
        quarter = self.at_quarter(half)
        return [half, quarter, self.at_eighth(quarter)]

    def encoded(self, features: Maps) -> Maps:
        """The encoding that features are of."""
        _, quarter, eighth = features
        return self.units.scaled([self.fine(quarter), self.coarse(eighth)])


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
        self.at_quarter = Block(spatial_dims, eighth + channels[0], quarter)
        self.to_half = rise(quarter, half, 2, 2)
        self.at_half = Block(spatial_dims, half, half)
        self.to_full = rise(half, full, 2, 2)
        self.decide = conv(full, out_channels, 1)
        self.units = Units(spatial_dims, channels)

    def forward(self, encoding: Maps, beside: Sequence[Tensor | int] = (0, 0, 0)) -> Tensor:
        """Class logits; ``beside`` is added at full, half and quarter of the resolution."""
        fine, coarse = self.units.back(encoding)
        full, half, quarter = beside
        risen = leaky_relu(self.to_quarter(coarse) + quarter)
        maps = self.at_quarter(torch.cat([risen, fine], dim=1))
        maps = self.at_half(leaky_relu(self.to_half(maps) + half))
        result: Tensor = self.decide(leaky_relu(self.to_full(maps) + full))
        return result


class SiteDecoder(nn.Module):
    """The server's answer to class logits, beside all that stayed at the site.

    That is the image, whose borders are finer than tokens, and what the encoder saw of it. As it
    begins, an answer changes nothing: it is learned without first, and then from there on.

    Parameters
    ----------
    spatial_dims, in_channels : int
    channels : (fine, coarse)
        Of an encoded mask.
    classes : int
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, channels: Sequence[int], classes: int
    ) -> None:
        super().__init__()
        conv, rise = Conv[Conv.CONV, spatial_dims], Conv[Conv.CONVTRANS, spatial_dims]
        (full, half, _, eighth), seen = DECODER_WIDTHS, ENCODER_WIDTHS
        self.decoder = Decoder(spatial_dims, channels, classes)
        self.image_at_full = conv(in_channels, full, 1)
        self.image_at_half = conv(in_channels, half, 2, 2)
        self.seen_at_half = conv(seen[0], half, 1)
        self.seen_at_quarter = conv(seen[1], eighth, 1)
        self.seen_at_eighth = rise(seen[2], eighth, 2, 2)
        with torch.no_grad():
            self.decoder.to_quarter.weight.zero_()
            self.decoder.at_quarter.conv.weight[:, eighth:] = 0

    def forward(self, answer: Maps, image: Tensor, features: Maps) -> Tensor:
        half, quarter, eighth = features
        beside = [
            self.image_at_full(image),
            self.image_at_half(image) + self.seen_at_half(half),
            self.seen_at_quarter(quarter) + self.seen_at_eighth(eighth),
        ]
        found: Tensor = self.decoder(answer, beside)
        return found


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
        self.decoder = SiteDecoder(spatial_dims, in_channels, channels, classes)

    def forward(self, image: Tensor) -> Tensor:
        features = self.encoder.features(image)
        found: Tensor = self.decoder(self.encoder.encoded(features), image, features)
        return found
