"""A network that takes a proxy apart: the patient's image and the patient's mask together.

Both channels are learned by one network, since each helps the other: where a border is in the
image, there is one in the mask.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, avg_pool3d, l1_loss

from veilseg.audit.comparators import eased_law_of
from veilseg.audit.fitting import run
from veilseg.audit.laws import Law
from veilseg.audit.linear import LinearAttacker
from veilseg.audit.reading_off import COARSE
from veilseg.audit.scene import Observation, Scene
from veilseg.audit.workshop import MOST_CONTROL_STEPS, Workshop
from veilseg.networks.u_net import HalfResolutionUNet
from veilseg.payload import Float32Array
from veilseg.training.loader import Batch
from veilseg.training.losses import soft_target_loss

FILTERS = (48, 96, 128)
IMAGE_WEIGHT = 2  # against the mask
# Of SSIM in the loss: Wang et al. 2004, for intensities in [0, 1].
WINDOW, SMALL_MEAN, SMALL_SPREAD = 7, 0.01**2, 0.03**2
# Nearly all of the patient: an attack that fails here works nowhere.
CONTROL_COEFFICIENT = 0.9
# Of the steps, for networks that go on from another: with answers, at another coefficient.
ANSWERED_PART, OTHER_PART = 0.25, 0.75


class Separator(nn.Module):
    """Proxy, and what else is seen, to patient image and patient mask.

    Parameters
    ----------
    spatial_dims, channels, classes : int
    beside : dict of int
        What is looked at beside the proxy, by its name in a batch, and how many maps it has.
    first : LinearAttacker or None
        Whose filter gives the first guess of the image; None: the proxy is the first guess. Its
        mean maps are not used, for tiles may be cut from anywhere.
    """

    gain: Tensor
    shift: Tensor

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        classes: int,
        beside: dict[str, int],
        first: LinearAttacker | None = None,
    ) -> None:
        super().__init__()
        one = (1,) * (spatial_dims + 1)
        gain, shift = torch.ones(1, *one), torch.zeros(2, *one)
        if first is not None:
            means = [float(first.mean_proxy.mean()), float(first.mean_image.mean())]
            gain, shift = torch.from_numpy(first.gain)[None], torch.tensor(means).reshape(2, *one)
        self.register_buffer("gain", gain, persistent=False)
        self.register_buffer("shift", shift, persistent=False)
        self.channels, self.beside = channels, tuple(beside)
        maps = channels + sum(beside.values())
        self.network = HalfResolutionUNet(spatial_dims, maps, channels + classes, FILTERS)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C + …, …) to (N, C + K, …): the image, then class logits."""
        found = self.network(maps).float()
        proxy = maps[:, : self.channels].float()
        axes = tuple(range(2, maps.ndim))
        spectrum = torch.fft.fftn(proxy - self.shift[0], dim=axes) * self.gain
        guess = torch.fft.ifftn(spectrum, dim=axes).real + self.shift[1]
        image = guess + found[:, : self.channels]
        return torch.cat([image, found[:, self.channels :]], dim=1)

    def loss(self, batch: Batch) -> Tensor:
        """L1 of the image and of its gradients, SSIM; cross-entropy and Dice of the mask."""
        found = self(torch.cat([batch[name] for name in ("proxy", *self.beside)], dim=1))
        image, logits = found[:, : self.channels], found[:, self.channels :]
        wanted = batch["image"]
        sharp = sum(
            l1_loss(image.diff(dim=axis), wanted.diff(dim=axis)) for axis in range(2, image.ndim)
        )
        of_image = l1_loss(image, wanted) + sharp + dissimilarity(image, wanted)
        return IMAGE_WEIGHT * of_image + soft_target_loss(logits, batch["target"])

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


def dissimilarity(found: Tensor, wanted: Tensor) -> Tensor:
    """1 − SSIM with a flat window, axis by axis: a tenth of the time of MONAI's in 3D."""
    dims = found.ndim - 2
    pooled = avg_pool3d if dims == 3 else avg_pool2d

    def local(maps: Tensor) -> Tensor:
        for axis in range(dims):
            window = [min(WINDOW, maps.shape[2 + axis]) if i == axis else 1 for i in range(dims)]
            maps = pooled(maps, window, 1)
        return maps

    first, second = local(found), local(wanted)
    variances = local(found**2) - first**2 + local(wanted**2) - second**2
    covariance = local(found * wanted) - first * second
    luminance = (2 * first * second + SMALL_MEAN) / (first**2 + second**2 + SMALL_MEAN)
    structure = (2 * covariance + SMALL_SPREAD) / (variances + SMALL_SPREAD)
    return 1 - (luminance * structure).mean()


def separator(
    workshop: Workshop, coefficient: float, sees_answer: bool, coarse: str = ""
) -> Separator:
    """The network for mixtures of a coefficient, trained once and used by both channels.

    One for another coefficient than the default goes on from that for the default, and one that
    sees the answer as well from the one that does not: asking the server takes longer than a step.
    One that sees coarse answers goes on from the one that sees whole ones.

    Parameters
    ----------
    workshop : Workshop
    coefficient : float
    sees_answer : bool
    coarse : str
        How answers are made coarse, of ``COARSE``; empty for not at all.
    """
    scene = workshop.scene
    name, law = f"separator-a{coefficient:g}", scene.law(coefficient)
    start = None
    if sees_answer or coefficient != scene.coefficient:
        start = separator(workshop, coefficient if sees_answer else scene.coefficient, bool(coarse))
    steps = workshop.effort.steps
    if not sees_answer:
        if start is not None:
            steps = max(1, round(OTHER_PART * steps))
        if coefficient == CONTROL_COEFFICIENT != scene.coefficient:
            steps = min(steps, MOST_CONTROL_STEPS)
        build = partial(_network, scene, law, {}, start)
        found = workshop.trained(name, build, law, _loss, steps)
    else:

        def loss(network: nn.Module, batch: Batch) -> Tensor:
            return _loss(network, _made_coarse(workshop.with_answers(batch), coarse))

        steps = max(1, round(ANSWERED_PART * steps))
        build = partial(_network, scene, law, {"answer": scene.classes}, start)
        found = workshop.trained(f"{name}-answer {coarse}".strip(), build, law, loss, steps)
    assert isinstance(found, Separator)
    return found


def easy_separator(workshop: Workshop) -> tuple[Separator, Law, str]:
    """A network for proxies that are nearly the patient, their law, and what that is in words."""
    scene = workshop.scene
    if scene.mixes:
        a = CONTROL_COEFFICIENT
        return separator(workshop, a, sees_answer=False), scene.law(a), f"mixtures at a = {a:g}"
    law, what = eased_law_of(scene.bundle, scene.classes)
    start = separator(workshop, scene.coefficient, sees_answer=False)
    steps = max(1, round(OTHER_PART * workshop.effort.steps))
    build = partial(_network, scene, law, {}, start)
    found = workshop.trained("separator-eased", build, law, _loss, steps)
    assert isinstance(found, Separator)
    return found, law, what


def _network(scene: Scene, law: Law, beside: dict[str, int], start: Separator | None) -> Separator:
    shape = len(scene.manifest.tile_shape), len(scene.manifest.channels), scene.classes
    network = Separator(*shape, beside, LinearAttacker.fitted(scene, law))
    if start is not None:
        network.go_on_from(start)
    return network


def _made_coarse(batch: Batch, how: str) -> Batch:
    if not how:
        return batch
    answers = np.stack([COARSE[how](answer) for answer in batch["answer"].numpy()])
    return batch | {"answer": torch.from_numpy(answers)}


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
