"""The client's unmixing network D(m̂, y_r, r, a) → ŷ of Mixup-Privacy."""

import torch
from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from veilseg.networks.u_net import FINE_FEATURES, context_network

# Chosen so that the compute stays below a fifth of the segmenter's, for any number of classes
# (tested to 20): a voxel's own maps are only weighed, context is seen at half resolution.
UNMIXER_FILTERS = (12, 24, 48)
# The algebraic solution enters as a log-probability; this floor keeps it finite and revisable.
ALGEBRAIC_FLOOR = 0.02
# A correction of this many nats or more is no different from one of infinitely many.
LARGEST_CORRECTION = 30.0


class Unmixer(nn.Module):
    """Revert the mixing of segmentation maps.

    It starts from the algebraic solution ``(m̂ − (1 − a)·y_r) / a`` and learns what to change:
    the answer is not exact, and the reference says where it can be wrong. It never sees the
    patient image or the mixture.

    Parameters
    ----------
    spatial_dims, reference_channels, classes : int
    """

    def __init__(self, spatial_dims: int, reference_channels: int, classes: int) -> None:
        super().__init__()
        conv, rise = Conv[Conv.CONV, spatial_dims], Conv[Conv.CONVTRANS, spatial_dims]
        maps = 2 * classes + reference_channels
        self.embed = conv(maps, FINE_FEATURES, 1)
        self.halve = Pool[Pool.AVG, spatial_dims](2)
        width = UNMIXER_FILTERS[0]
        self.context = context_network(spatial_dims, maps, width, UNMIXER_FILTERS, first_stride=1)
        self.rise = rise(width, FINE_FEATURES, 2, 2)
        self.decide = conv(FINE_FEATURES, classes, 1)

    def forward(
        self, answer: Tensor, reference_labels: Tensor, reference: Tensor, coefficient: Tensor
    ) -> Tensor:
        """Class logits of the patient.

        Parameters
        ----------
        answer, reference_labels : Tensor, shape (N, K, X, Y[, Z])
            The server's segmentation mixture; the reference's labels, one-hot.
        reference : Tensor, shape (N, C, X, Y[, Z])
            The reference as it was mixed.
        coefficient : Tensor, shape (N,)
            Weight of the patient image.

        Returns
        -------
        Tensor, shape (N, K, X, Y[, Z])
        """
        start = _revisable(answer, reference_labels, coefficient)
        return start.log() + self.correction(answer, reference_labels, reference)

    def probabilities(
        self, answer: Tensor, reference_labels: Tensor, reference: Tensor, coefficient: Tensor
    ) -> Tensor:
        """Softmax of the logits, without a logarithm or a softmax: most of a site's time is here.

        Takes and returns what :meth:`forward` does.
        """
        correction = self.correction(answer, reference_labels, reference)
        factor = correction.clamp(-LARGEST_CORRECTION, LARGEST_CORRECTION).exp()
        weights = _revisable(answer, reference_labels, coefficient) * factor
        return weights / weights.sum(dim=1, keepdim=True)

    def correction(self, answer: Tensor, reference_labels: Tensor, reference: Tensor) -> Tensor:
        """What is added to the logarithm of the algebraic solution: (N, K, X, Y[, Z])."""
        maps = torch.cat([answer, reference_labels, reference], dim=1)
        around = self.rise(self.context(self.halve(maps)))
        result: Tensor = self.decide(leaky_relu(self.embed(maps) + around))
        return result


def algebraic_solution(answer: Tensor, reference_labels: Tensor, coefficient: Tensor) -> Tensor:
    """``(m̂ − (1 − a)·y_r) / a``, clipped to [0, 1].

    Parameters
    ----------
    answer, reference_labels : Tensor, shape (N, K, X, Y[, Z])
    coefficient : Tensor, shape (N,)

    Returns
    -------
    Tensor, shape (N, K, X, Y[, Z])
    """
    a = coefficient.reshape(-1, *[1] * (answer.ndim - 1))
    return ((answer - (1 - a) * reference_labels) / a).clamp(0, 1)


def _revisable(answer: Tensor, reference_labels: Tensor, coefficient: Tensor) -> Tensor:
    solution = algebraic_solution(answer, reference_labels, coefficient)
    return solution.clamp(min=ALGEBRAIC_FLOOR)
