"""The loss of the paper's end-to-end training, for targets that may be mixtures."""

import torch
from torch import Tensor

DICE_SMOOTHING = 1e-5


def soft_target_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy plus soft Dice against class maps that sum to one.

    The Dice term divides by squares, ``2·Σpm / (Σp² + Σm²)``: unlike the usual form it is 1
    exactly where ``p = m`` also for fractional targets such as a mixture of two label maps.

    Parameters
    ----------
    logits : Tensor, shape (N, K, X, Y, Z)
    target : Tensor, shape (N, K, X, Y, Z)
        One-hot, or a convex combination of one-hot maps.

    Returns
    -------
    Tensor, scalar
    """
    log_probabilities = torch.log_softmax(logits.float(), dim=1)
    cross_entropy = -(target * log_probabilities).sum(dim=1).mean()
    # Over the batch, background left out: a class missing in one tile does not dominate.
    foreground, wanted = log_probabilities[:, 1:].exp(), target[:, 1:]
    axes = (0, *range(2, logits.ndim))
    overlap = 2 * (foreground * wanted).sum(axes) + DICE_SMOOTHING
    total = (foreground.square() + wanted.square()).sum(axes) + DICE_SMOOTHING
    return cross_entropy + 1 - (overlap / total).mean()
