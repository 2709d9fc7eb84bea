"""A network that takes a proxy apart: the patient's image and the patient's mask together.

Both channels are learned by one network, since each helps the other: where a border is in the
image, there is one in the mask.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from veilseg.audit.fitting import Batch, run
from veilseg.audit.scene import Observation
from veilseg.audit.workshop import Workshop
from veilseg.networks.u_net import HalfResolutionUNet
from veilseg.payload import Float32Array
from veilseg.training.losses import soft_target_loss

FILTERS = (48, 96, 128)
# Of the steps, for networks that go on from another: with answers, at another coefficient.
ANSWERED_PART, OTHER_PART = 4, 2


class Separator(nn.Module):
    """Proxy, and what else is seen, to patient image and patient mask.

    Parameters
    ----------
    spatial_dims, channels, classes : int
    beside : dict of int
        What is looked at beside the proxy, by its name in a batch, and how many maps it has.
    """

    def __init__(
        self, spatial_dims: int, channels: int, classes: int, beside: dict[str, int]
    ) -> None:
        super().__init__()
        self.channels, self.beside = channels, tuple(beside)
        maps = channels + sum(beside.values())
        self.network = HalfResolutionUNet(spatial_dims, maps, channels + classes, FILTERS)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C + …, …) to (N, C + K, …): the image, then class logits."""
        found = self.network(maps).float()
        # What the mixture shows is the first guess of the image.
        image = maps[:, : self.channels].float() + found[:, : self.channels]
        return torch.cat([image, found[:, self.channels :]], dim=1)

    def loss(self, batch: Batch) -> Tensor:
        """L1 of the image and of its gradients; cross-entropy and Dice of the mask."""
        found = self(torch.cat([batch[name] for name in ("proxy", *self.beside)], dim=1))
        image, logits = found[:, : self.channels], found[:, self.channels :]
        wanted = batch["image"]
        sharp = sum(
            l1_loss(image.diff(dim=axis), wanted.diff(dim=axis)) for axis in range(2, image.ndim)
        )
        return 4 * (l1_loss(image, wanted) + sharp) + soft_target_loss(logits, batch["target"])

    @torch.no_grad()
    def go_on_from(self, other: "Separator") -> None:
        """Take over what another has learned from no more maps; new ones weigh nothing yet."""
        learned = dict(other.named_parameters())
        for name, weight in self.named_parameters():
            known = learned[name]
            if weight.shape != known.shape:
                weight.zero_()
                weight[:, : known.shape[1]] = known
            else:
                weight.copy_(known)

    def separate(
        self, proxy: Float32Array, *beside: Float32Array
    ) -> tuple[Float32Array, Float32Array]:
        """Image (C, *tile) in [0, 1] and class logits (K, *tile) of one proxy."""
        both = run(self, np.concatenate([proxy, *beside]))
        return np.clip(both[: self.channels], 0, 1), both[self.channels :]


def separator(workshop: Workshop, coefficient: float, sees_answer: bool) -> Separator:
    """The network for mixtures of a coefficient, trained once and used by both channels.

    One for another coefficient than the default goes on from that for the default, and one that
    sees the answer as well from the one that does not: asking the server takes longer than a step.
    """
    scene = workshop.scene
    shape = len(scene.manifest.tile_shape), len(scene.manifest.channels), scene.classes
    name, law = f"separator-a{coefficient:g}", scene.law(coefficient)
    steps = workshop.effort.steps
    if not sees_answer:
        start = None
        if coefficient != scene.coefficient:
            start = separator(workshop, scene.coefficient, sees_answer=False)
            steps = max(1, steps // OTHER_PART)
        found = workshop.trained(name, lambda: _network(shape, {}, start), law, _loss, steps)
    else:
        start = separator(workshop, coefficient, sees_answer=False)
        beside = {"answer": scene.classes}

        def loss(network: nn.Module, batch: Batch) -> Tensor:
            return _loss(network, workshop.with_answers(batch))

        steps = max(1, steps // ANSWERED_PART)
        found = workshop.trained(
            f"{name}-answer", lambda: _network(shape, beside, start), law, loss, steps
        )
    assert isinstance(found, Separator)
    return found


def _network(
    shape: tuple[int, int, int], beside: dict[str, int], start: Separator | None
) -> Separator:
    network = Separator(*shape, beside)
    if start is not None:
        network.go_on_from(start)
    return network


def _loss(network: nn.Module, batch: Batch) -> Tensor:
    assert isinstance(network, Separator)
    return network.loss(batch)


def separated(
    network: Separator, observations: Sequence[Observation]
) -> list[tuple[Float32Array, Float32Array]]:
    """Image and class logits that a network finds in each observation."""
    return [
        network.separate(one.proxy, *([one.answer] if network.beside else []))
        for one in observations
    ]
