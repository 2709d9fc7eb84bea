"""The server's segmentation network: a U-Net, thin over MONAI's DynUNet."""

from collections.abc import Sequence

from monai.networks.nets import DynUNet
from torch import Tensor, nn

SEGMENTER_FILTERS = (16, 32, 64, 128)
# Every level but the first halves the grid, so tiles are multiples of this.
DIVISOR = 2 ** (len(SEGMENTER_FILTERS) - 1)


class Segmenter(nn.Module):
    """Proxy to class logits.

    Parameters
    ----------
    spatial_dims : int
        2 or 3.
    in_channels, classes : int
    filters : sequence of int
        Width per resolution level.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        classes: int,
        filters: Sequence[int] = SEGMENTER_FILTERS,
    ) -> None:
        super().__init__()
        self.network = u_net(spatial_dims, in_channels, classes, filters)

    def forward(self, proxy: Tensor) -> Tensor:
        """(N, C, X, Y, Z) in [0, 1] to logits (N, K, X, Y, Z)."""
        logits: Tensor = self.network(proxy)
        return logits


def u_net(spatial_dims: int, in_channels: int, classes: int, filters: Sequence[int]) -> DynUNet:
    """A DynUNet with 3-voxel kernels that halves the grid at each further level."""
    levels = len(filters)
    return DynUNet(
        spatial_dims,
        in_channels,
        classes,
        kernel_size=[3] * levels,
        strides=[1] + [2] * (levels - 1),
        upsample_kernel_size=[2] * (levels - 1),
        filters=list(filters),
        norm_name=("INSTANCE", {"affine": True}),
        res_block=False,
    )
