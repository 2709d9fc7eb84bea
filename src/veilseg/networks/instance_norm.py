"""Instance normalisation with right gradients where one large tile makes a batch."""

import torch
from monai.networks.layers.factories import Norm
from torch import Tensor, nn
from torch.nn.functional import batch_norm, instance_norm

INSTANCE_NORM = "per_example"


class InstanceNorm(nn.Module):
    """``torch.nn.InstanceNorm`` with affine parameters, example by example while it is fitted.

    For a single example whose gradient is ``channels_last``, torch 2.13 on a CPU gives wrong
    gradients (decision 0017). Example by example it is faster, too: nothing is moved to another
    memory layout and back.

    Parameters
    ----------
    num_features : int
        Channels. MONAI's factory gives it by this name.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, X, Y[, Z]) to the same shape."""
        if not (torch.is_grad_enabled() and maps.requires_grad):
            return instance_norm(maps, weight=self.weight, bias=self.bias)
        each = [
            batch_norm(example, None, None, self.weight, self.bias, training=True)
            for example in torch.split(maps, 1)
        ]
        return each[0] if len(each) == 1 else torch.cat(each)


Norm.add_factory_callable(INSTANCE_NORM, lambda _dimensions: InstanceNorm)
