"""The server's segmentation network."""

from torch import Tensor, nn

from veilseg.networks.u_net import HalfResolutionUNet

SEGMENTER_FILTERS = (48, 96, 128)
# Every level halves the grid, so tiles are multiples of this.
DIVISOR = 2 ** len(SEGMENTER_FILTERS)
# No axis of a tile is shorter: at the coarsest level it would shrink from two voxels to one, and
# torch 2.13 on a CPU with bf16 then reads memory that nobody wrote (found along the last axis).
# What lies there is now and then NaN, and so is the loss.
SMALLEST_SIDE = 2 * DIVISOR


class Segmenter(nn.Module):
    """Proxy to class logits.

    Parameters
    ----------
    spatial_dims : int
        2 or 3.
    in_channels, classes : int
    """

    def __init__(self, spatial_dims: int, in_channels: int, classes: int) -> None:
        super().__init__()
        self.network = HalfResolutionUNet(spatial_dims, in_channels, classes, SEGMENTER_FILTERS)

    def forward(self, proxy: Tensor) -> Tensor:
        """(N, C, X, Y[, Z]) in [0, 1] to logits (N, K, X, Y[, Z])."""
        logits: Tensor = self.network(proxy)
        return logits
