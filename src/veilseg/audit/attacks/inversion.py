"""A10: a network turns encodings back into images, from pairs of both that the attacker has."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from monai.networks.layers.factories import Conv
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn.functional import l1_loss
from torch.utils.data import Dataset

from veilseg.audit.encodings import FreshEncodings, layout_of, own_tiles
from veilseg.audit.findings import Control, DoesNotApply, Finding, Threat, rounded
from veilseg.audit.fitting import run
from veilseg.audit.nulls import null_of_images, proxies_of_nobody
from veilseg.audit.scene import Scene
from veilseg.audit.separator import dissimilarity
from veilseg.audit.similarity import ms_ssim, psnr_db, ssim
from veilseg.audit.workshop import MOST_CONTROL_STEPS, Workshop
from veilseg.datasets.cases import PreparedCase
from veilseg.evaluation.bootstrap import bootstrap_mean
from veilseg.networks.encoders import Decoder
from veilseg.payload import Float32Array
from veilseg.schemes.encoding.mapping import as_maps
from veilseg.schemes.encoding.sequence import STRIDES, Layout
from veilseg.training.examples import Arrays, one_hot
from veilseg.training.loader import Batch

FINDING = Finding("A10", "Encoder inversion", "image", Threat(knows_networks=True), "SSIM")
# Pairs of image and encoding; ALL: every image of the attacker's.
PAIRS, ALL, BLACK_BOX = (1, 5, 20, 100), "all its images", "any number (black box)"
# Wider than the site's own decoder: the attacker has no reason to be light.
WIDTHS = (16, 32, 48, 96)
CONTROL_SSIM = 0.9
BATCH = 4

Encode = Callable[[Float32Array], Float32Array]


class Inverter(nn.Module):
    """A decoder that mirrors the encoder, and what is linear in each token beside it.

    (N, values) to (N, C, *tile).
    """

    def __init__(self, layout: Layout, channels: int) -> None:
        super().__init__()
        self.layout = layout
        dims = len(layout.levels[0].grid)
        of_levels = [level.channels for level in layout.levels]
        self.decoder = Decoder(dims, of_levels, channels, WIDTHS)
        rise = Conv[Conv.CONVTRANS, dims]
        self.linear = nn.ModuleList(
            rise(count, channels, stride, stride)
            for count, stride in zip(of_levels, STRIDES, strict=True)
        )

    def forward(self, sequence: Tensor) -> Tensor:
        maps = as_maps(sequence, self.layout)
        found: Tensor = self.decoder(maps)
        for linear, one in zip(self.linear, maps, strict=True):
            found = found + linear(one)
        return found

    def loss(self, batch: Batch) -> Tensor:
        """L1 and SSIM."""
        found = self(batch["proxy"]).float()
        return l1_loss(found, batch["image"]) + dissimilarity(found, batch["image"])

    def inverted(self, sequence: Float32Array) -> Float32Array:
        """The image of one encoding, in [0, 1]."""
        return np.clip(run(self, sequence), 0, 1)


@dataclass(frozen=True)
class KeepingLaw:
    """Encodings from which nothing is missing: each token has the voxels of its place."""

    classes: int

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:  # noqa: ARG002 - one interface
        return {
            "proxy": _kept(case.image),
            "image": case.image,
            "target": one_hot(case.labels, self.classes),
        }


def _kept(image: Float32Array) -> Float32Array:
    """A sequence of all voxels (C, *tile), by :func:`_keeping_layout`."""
    layout = _keeping_layout(image.shape[1:], len(image))
    return layout.sequence([_folded(image, stride) for stride in STRIDES])


def _keeping_layout(tile: Sequence[int], channels: int) -> Layout:
    return Layout.of(tile, [channels * stride ** len(tile) for stride in STRIDES])


def _folded(image: Float32Array, stride: int) -> Float32Array:
    """(C, *tile) to (C·strideᵈ, *grid)."""
    sides = [part for size in image.shape[1:] for part in (size // stride, stride)]
    dims = image.ndim - 1
    inside, places = range(2, 2 * dims + 1, 2), range(1, 2 * dims, 2)
    split = image.reshape(len(image), *sides).transpose(0, *inside, *places)
    return np.ascontiguousarray(split.reshape(-1, *split.shape[1 + dims :]))


class KnownPairs(Dataset[Batch]):
    """A fixed number of pairs, moved by whole tokens: nothing else can be made of them."""

    def __init__(
        self, cases: Sequence[PreparedCase], encode: Encode, layout: Layout, count: int, seed: int
    ) -> None:
        self.images = [case.image for case in cases]
        self.encoded = [encode(image) for image in self.images]
        self.layout, self.count, self.seed = layout, count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Batch:
        rng = np.random.default_rng([self.seed, 30, number])
        which = int(rng.integers(len(self.images)))
        image, grids = self.images[which], self.layout.grids(self.encoded[which])
        by = rng.integers(-1, 2, image.ndim - 1)
        axes = tuple(range(1, image.ndim))
        moved = np.roll(image, by * STRIDES[-1], axes)
        rolled = [
            np.roll(grid, by * (STRIDES[-1] // stride), axes)
            for grid, stride in zip(grids, STRIDES, strict=True)
        ]
        return _tensors(self.layout.sequence(rolled), moved)


def attack(workshop: Workshop) -> list[Finding]:
    """SSIM of what is made of the audited people's encodings, over the number of known pairs.

    All of it counts as what happens by default: every site has the encoder, and no site's images
    are hidden from another that has it.
    """
    scene = workshop.scene
    if not scene.encodes:
        raise DoesNotApply("nothing is encoded")
    seen = workshop.observed()
    truths, patients = [one.image for one in seen], [one.patient for one in seen]
    encode, own = encoder_of(scene), own_tiles(scene)
    known: dict[str, list[PreparedCase]] = {}
    for count in (*(n for n in PAIRS if n < len(own)), len(own)):
        known[ALL if count == len(own) else f"{count} pairs"] = own[:count]
    known[BLACK_BOX] = own
    curve = {name: _trained(workshop, name, cases) for name, cases in known.items()}
    found = {name: [network.inverted(one.proxy) for one in seen] for name, network in curve.items()}
    scores = {
        name: [ssim(one, truth) for one, truth in zip(images, truths, strict=True)]
        for name, images in found.items()
    }
    nobody = proxies_of_nobody(workshop, scene.law())
    positive = control(workshop)
    means = {
        "0 pairs": rounded(workshop.ssim_of_nobody()),
        **{name: rounded(float(np.mean(values))) for name, values in scores.items()},
    }
    findings = []
    for name, values in scores.items():
        network, familiar = curve[name], known[name][: len(seen)]
        again = [ssim(network.inverted(encode(case.image)), case.image) for case in familiar]
        null = null_of_images(workshop, [network.inverted(one.proxy) for one in nobody])
        details = {
            "ssim_by_pairs": means,
            "ssim_of_people_it_was_fitted_to": rounded(float(np.mean(again))),
            "ms_ssim": _mean(ms_ssim, found[name], truths),
            "psnr_db": _mean(psnr_db, found[name], truths),
        }
        threat = Threat(known_pairs=len(known[name]), colluding_site=name == BLACK_BOX)
        findings.append(
            replace(FINDING, threat=threat).measured(
                bootstrap_mean(values, patients),
                *({"mean image": workshop.ssim_of_nobody()}, positive, null, details),
                setting=f"known pairs: {name}",
            )
        )
    return findings


def control(workshop: Workshop) -> Control:
    """The same network on encodings from which nothing is missing, of people it has not seen.

    What it makes of people it was fitted to would say as much of the encoder as of the attack.
    """
    scene = workshop.scene
    law, channels = KeepingLaw(scene.classes), len(scene.manifest.channels)
    layout = _keeping_layout(scene.manifest.tile_shape, channels)
    steps = min(MOST_CONTROL_STEPS, workshop.effort.steps)
    network = workshop.fitted(
        "inverter-of-all-voxels",
        lambda: Inverter(layout, channels),
        FreshEncodings(own_tiles(scene), law, steps * BATCH, scene.seed),
        lambda network, batch: network.loss(batch),  # type: ignore[operator]  # an Inverter
        steps,
        BATCH,
    )
    assert isinstance(network, Inverter)
    images = [one.image for one in workshop.observed()]
    found = [ssim(network.inverted(_kept(image)), image) for image in images]
    what = "encodings that keep every voxel, of the audited"
    return Control(what, float(np.mean(found)), low=CONTROL_SSIM)


def inverter(workshop: Workshop) -> Inverter:
    """What all of the attacker's images and their encodings teach, whoever encodes them."""
    return _trained(workshop, BLACK_BOX, own_tiles(workshop.scene))


def encoder_of(scene: Scene) -> Encode:
    """What a colluding site encodes by, on whole tiles, keyed where the site has a key."""
    half = scene.client()
    return lambda image: half.protect(image, "")[0].array[0]


def _trained(workshop: Workshop, name: str, cases: Sequence[PreparedCase]) -> Inverter:
    scene, count = workshop.scene, workshop.effort.steps * BATCH
    layout = layout_of(scene, "image")
    examples: Dataset[Batch] = (
        FreshEncodings(cases, scene.law(), count, scene.seed)
        if name == BLACK_BOX
        else KnownPairs(cases, encoder_of(scene), layout, count, scene.seed)
    )
    network = workshop.fitted(
        f"inverter-{name}",
        lambda: Inverter(layout, len(scene.manifest.channels)),
        examples,
        lambda network, batch: network.loss(batch),  # type: ignore[operator]  # an Inverter
        workshop.effort.steps,
        BATCH,
    )
    assert isinstance(network, Inverter)
    return network


def _tensors(encoded: Float32Array, image: Float32Array) -> Batch:
    return {
        name: torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
        for name, array in (("proxy", encoded), ("image", image))
    }


def _mean(
    measure: Callable[[Float32Array, Float32Array], float],
    found: Sequence[Float32Array],
    truths: Sequence[Float32Array],
) -> float | None:
    return rounded(float(np.mean([measure(a, b) for a, b in zip(found, truths, strict=True)])))
