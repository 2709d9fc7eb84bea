"""The server's segmentation network."""

from torch import Tensor, nn

from veilseg.networks.u_net import HalfResolutionUNet

# By spatial dimensions. Pictures have longer sides than volumes: to see as much of them takes a
# level more (docs/experiments.md, section 16).
SEGMENTER_FILTERS = {2: (48, 96, 128, 128), 3: (48, 96, 128)}


def divisor(spatial_dims: int) -> int:
    """Every level halves the grid, so tiles are multiples of this."""
    return int(2 ** len(SEGMENTER_FILTERS[spatial_dims]))


def smallest_side(spatial_dims: int) -> int:
    """No axis of a tile is shorter, or the coarsest level would shrink it from two voxels to one.

    torch 2.13 on a CPU with bf16 then reads memory that nobody wrote (found along the last axis).
    What lies there is now and then NaN, and so is the loss.
    """
    return 2 * divisor(spatial_dims)


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
        filters = SEGMENTER_FILTERS[spatial_dims]
        self.network = HalfResolutionUNet(spatial_dims, in_channels, classes, filters)

    def forward(self, proxy: Tensor) -> Tensor:
        """(N, C, X, Y[, Z]) in [0, 1] to logits (N, K, X, Y[, Z])."""
        logits: Tensor = self.network(proxy)
        return logits
