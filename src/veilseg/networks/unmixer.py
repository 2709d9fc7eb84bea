"""The client's unmixing network D(m̂, y_r, r, a) → ŷ of Mixup-Privacy."""

import torch
from torch import Tensor, nn

from veilseg.networks.u_net import HalfResolutionUNet

# Chosen so that the compute stays below a fifth of the segmenter's, for any number of classes
# (tested to 20): a voxel's own maps are only weighed, context is seen at half resolution.
UNMIXER_FILTERS = (12, 24, 48)
# The algebraic solution enters as a log-probability; this floor keeps it finite and revisable.
ALGEBRAIC_FLOOR = 0.02


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
        inputs = 2 * classes + reference_channels + 1
        self.network = HalfResolutionUNet(
            spatial_dims, inputs, classes, UNMIXER_FILTERS, kernel_size=1
        )

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
        a = coefficient.reshape(-1, *[1] * (answer.ndim - 1))
        plane = a.expand(-1, 1, *answer.shape[2:])
        inputs = torch.cat([answer, reference_labels, reference, plane], dim=1)
        correction: Tensor = self.network(inputs)
        start = algebraic_solution(answer, reference_labels, coefficient)
        return start.clamp(min=ALGEBRAIC_FLOOR).log() + correction


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
