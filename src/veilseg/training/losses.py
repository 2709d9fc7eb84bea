"""The loss of the paper's end-to-end training, for targets that may be mixtures."""

import torch
import torch.distributed as distributed
from torch import Tensor

DICE_SMOOTHING = 1e-5


def soft_target_loss(logits: Tensor, target: Tensor, counted: Tensor | None = None) -> Tensor:
    """Cross-entropy plus soft Dice against class maps that sum to one.

    The Dice term divides by squares, ``2·Σpm / (Σp² + Σm²)``: unlike the usual form it is 1
    exactly where ``p = m`` also for fractional targets such as a mixture of two label maps.

    Parameters
    ----------
    logits : Tensor, shape (N, K, X, Y[, Z])
    target : Tensor, shape (N, K, X, Y[, Z])
        One-hot, or a convex combination of one-hot maps.
    counted : Tensor, shape (N,), or None
        1 for each example, 0 for one that is there only because processes cannot share a batch
        equally. None: all are examples, and each process has as many.

    Returns
    -------
    Tensor, scalar
        Under ``torchrun`` the mean over processes is the loss of the whole batch.
    """
    log_probabilities = torch.log_softmax(logits.float(), dim=1)
    surprise = -(target * log_probabilities).sum(dim=1)
    # Over the batch, background left out: a class missing in one tile does not dominate.
    foreground, wanted = log_probabilities[:, 1:].exp(), target[:, 1:]
    cross_entropy = mean_of_counted(surprise, counted)
    if counted is not None:
        where = counted.reshape(-1, *[1] * (logits.ndim - 1))
        foreground, wanted = foreground * where, wanted * where
    axes = (0, *range(2, logits.ndim))
    overlap = _of_whole_batch((foreground * wanted).sum(axes))
    total = _of_whole_batch((foreground.square() + wanted.square()).sum(axes))
    dice = (2 * overlap + DICE_SMOOTHING) / (total + DICE_SMOOTHING)
    return cross_entropy + 1 - dice.mean()


def mean_of_counted(values: Tensor, counted: Tensor | None) -> Tensor:
    """Mean over all values (N, …) of the examples that count; arguments as above."""
    if counted is None:
        return values.mean()
    of_each = values.flatten(1).mean(dim=1)
    return _of_whole_batch((of_each * counted).sum()) / _of_whole_batch(counted.sum())


def _of_whole_batch(sums: Tensor) -> Tensor:
    """Sum over processes, with gradients: the Dice of a batch is no mean of its parts' Dice."""
    if not distributed.is_available() or not distributed.is_initialized():
        return sums
    total = sums.detach().clone()
    distributed.all_reduce(total)
    # The total in value. In gradient the own part, times the processes by whose number the sum
    # of all gradients is divided.
    own = distributed.get_world_size() * sums
    return own + (total - own).detach()
