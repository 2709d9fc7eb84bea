"""Networks that tell people apart by their images."""

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, logsigmoid, normalize

# Of an embedding, each level at half of the resolution of the one before.
WIDTHS = (16, 32, 64, 128)


class Embedding(nn.Module):
    """Maps to a vector of length one; where things are counts as well as what is there.

    Parameters
    ----------
    spatial_dims, channels : int
    widths : sequence of int
    """

    def __init__(self, spatial_dims: int, channels: int, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        before = (channels, *widths[:-1])
        self.levels = nn.ModuleList(
            conv(source, width, 3, stride=2, padding=1)
            for source, width in zip(before, widths, strict=True)
        )

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, X, Y[, Z]) to (N, values)."""
        for level in self.levels:
            maps = leaky_relu(level(maps))
        # Not pooled: a coarse grid is kept.
        return normalize(maps.flatten(1).float(), dim=1)


class SiameseDiscriminator(nn.Module):
    """Whether two images are of one person: one embedding for both, and how close they lie.

    Parameters
    ----------
    spatial_dims, channels : int
    """

    def __init__(self, spatial_dims: int, channels: int) -> None:
        super().__init__()
        self.embedding = Embedding(spatial_dims, channels)
        self.slope, self.shift = nn.Parameter(torch.tensor([5.0])), nn.Parameter(torch.zeros(1))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Logits of "the same person" for each of the first with each of the second: (N, M)."""
        closeness = self.embedding(first) @ self.embedding(second).T
        logits: Tensor = self.slope * closeness + self.shift
        return logits

    def loss(
        self, first: Tensor, second: Tensor, person: Tensor, counted: Tensor | None = None
    ) -> Tensor:
        """Cross-entropy of all pairs; the same and different people count alike, however many.

        ``log 2`` is what guessing gives.

        Parameters
        ----------
        first, second : Tensor, shape (N, C, X, Y[, Z])
            Two images of each person.
        person : Tensor, shape (N,)
            Who it is.
        counted : Tensor, shape (N,), or None
            As of :func:`~veilseg.training.losses.soft_target_loss`.
        """
        logits = self(first, second)
        same = person[:, None] == person[None]
        weight = torch.ones_like(logits)
        if counted is not None:
            weight = counted[:, None] * counted[None]
        kinds = [
            (-logsigmoid(sign * logits) * weight * which).sum() / (weight * which).sum()
            for sign, which in ((1, same), (-1, ~same))
            if bool((weight * which).any())
        ]
        # A process' part of a batch may have one person only, or none that counts.
        return torch.stack(kinds).mean() if kinds else 0 * logits.sum()


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return maps.view_as(maps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.weight * gradients[0], None


def reversed_gradient(maps: Tensor, weight: float) -> Tensor:
    """The same maps, whose gradient is turned round: what follows learns, what made them unlearns.

    One backward pass then moves both sides of an adversarial game (Ganin and Lempitsky, ICML 2015,
    arXiv:1409.7495).

    Parameters
    ----------
    maps : Tensor
    weight : float
        Of what is unlearned.
    """
    found: Tensor = _Reversed.apply(maps, weight)  # type: ignore[no-untyped-call]  # torch declares no types
    return found
