"""The site's network of Privacy-Net: image to encoded image on the same grid."""

import torch
from torch import Tensor, nn

from veilseg.networks.u_net import HalfResolutionUNet

# Light beside the segmenter: sites have no GPU.
ENCODER_FILTERS = (12, 24, 48)


class ImageEncoder(nn.Module):
    """Image to an image that is to be segmented and not to be recognised.

    Parameters
    ----------
    spatial_dims, channels : int
        The encoded image has as many channels as the image.
    """

    def __init__(self, spatial_dims: int, channels: int) -> None:
        super().__init__()
        self.network = HalfResolutionUNet(spatial_dims, channels, channels, ENCODER_FILTERS)

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, X, Y[, Z]) to the same shape, in (0, 1): nothing else holds it to a range."""
        return torch.sigmoid(self.network(image).float())
