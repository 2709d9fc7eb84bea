"""The client's unmixing network D(m̂, y_r, r, a) → ŷ of Mixup-Privacy."""

import torch
from torch import Tensor, nn

from veilseg.networks.segmenter import u_net

# Chosen so that the compute stays below a fifth of the segmenter's (tested).
UNMIXER_FILTERS = (6, 12, 24, 48)
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
        inputs = 3 * classes + reference_channels + 1
        self.network = u_net(spatial_dims, inputs, classes, UNMIXER_FILTERS)

    def forward(
        self, answer: Tensor, reference_labels: Tensor, reference: Tensor, coefficient: Tensor
    ) -> Tensor:
        """Class logits of the patient.

        Parameters
        ----------
        answer, reference_labels : Tensor, shape (N, K, X, Y, Z)
            The server's segmentation mixture; the reference's labels, one-hot.
        reference : Tensor, shape (N, C, X, Y, Z)
            The reference as it was mixed.
        coefficient : Tensor, shape (N,)
            Weight of the patient image.

        Returns
        -------
        Tensor, shape (N, K, X, Y, Z)
        """
        a = coefficient.reshape(-1, *[1] * (answer.ndim - 1))
        algebraic = ((answer - (1 - a) * reference_labels) / a).clamp(0, 1)
        plane = a.expand(-1, 1, *answer.shape[2:])
        inputs = torch.cat([answer, reference_labels, algebraic, reference, plane], dim=1)
        start = algebraic.clamp(min=ALGEBRAIC_FLOOR).log()
        correction: Tensor = self.network(inputs)
        return start + correction
