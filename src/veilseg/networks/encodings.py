"""What both halves of Privacy-SF are made of: blocks, and the units of encodings.

An encoding is maps at a quarter and at an eighth of the resolution (``encoding.sequence``).
"""

from collections.abc import Iterator, Sequence

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from veilseg.networks.instance_norm import InstanceNorm

SMALLEST_DEVIATION = 1e-3

Maps = list[Tensor]


class Units(nn.Module):
    """In what an encoding is measured: mean 0 and variance 1 once that is known.

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
    def measure(self, made: Sequence[Maps], turned: bool = False) -> None:
        """Take means and deviations from some encodings that are in no units yet.

        Parameters
        ----------
        made : sequence of maps per level
        turned : bool
            Whether channels may be any turn of the encoder's: a level has one deviation then, which
            no turn changes.
        """
        for level, of_all in enumerate(zip(*made, strict=True)):
            values = torch.stack([maps.double() for maps in of_all])
            axes = [0, 1, *range(3, values.ndim)]
            deviation, mean = torch.std_mean(values, axes, correction=0, keepdim=True)
            if turned:
                alike = deviation.square().mean(dim=2, keepdim=True).sqrt()
                deviation = alike.expand_as(deviation)
            getattr(self, f"mean{level}").copy_(mean[0])
            getattr(self, f"deviation{level}").copy_(deviation[0].clamp(min=SMALLEST_DEVIATION))

    def _with(self, maps: Maps) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor]]]:
        for level, one in enumerate(maps):
            yield one, (getattr(self, f"mean{level}"), getattr(self, f"deviation{level}"))


class Block(nn.Module):
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
