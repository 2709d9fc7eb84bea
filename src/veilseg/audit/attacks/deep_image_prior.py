"""A6: Double-DIP (arXiv:1812.00467): two untrained networks share one mixture between them.

A weak floor: it needs nothing but the one proxy.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from veilseg.audit.findings import Control, DoesNotApply, Finding, NotRun, Threat, rounded
from veilseg.audit.grids import central
from veilseg.audit.nulls import null_control, proxies_of_nobody, truths
from veilseg.audit.scene import Observation, evenly
from veilseg.audit.similarity import ssim
from veilseg.audit.verdict import LEAST_PATIENTS
from veilseg.audit.workshop import Workshop, mean_image
from veilseg.evaluation.bootstrap import bootstrap_mean
from veilseg.networks.u_net import context_network
from veilseg.payload import Float32Array
from veilseg.training.processes import launch

THREAT = Threat(knows_scheme=False, knows_networks=False, auxiliary_images=False)
FINDING = Finding("A6", "Double deep image prior", "image", THREAT, "SSIM, best of two")
FILTERS = (16, 32, 64)
CODE_CHANNELS = 8
CODE_STEP = 1 / 30  # jitter of the code, as a regulariser
EXCLUSION = 0.05
LEARNING_RATE = 3e-3
# Of the part in the middle that is taken apart, by the number of axes.
LARGEST_SIDE = {2: 96, 3: 32}
CONTROL_COEFFICIENT, CONTROL_SSIM, EASY = 0.9, 0.9, 3

Layers = tuple[Float32Array, Float32Array]


def attack(workshop: Workshop) -> list[Finding]:
    """SSIM of the better of the two layers: which is the patient, it cannot say."""
    scene, tile = workshop.scene, workshop.scene.manifest.tile_shape
    if not scene.mixes:
        raise DoesNotApply("nothing is mixed")
    if workshop.effort.fitted < LEAST_PATIENTS:
        raise NotRun(f"left out of a {workshop.effort.name} audit: it takes minutes for each image")
    window = (slice(None), *central(tile, tuple(min(n, LARGEST_SIDE[len(tile)]) for n in tile)))
    chosen = evenly(workshop.observed(), workshop.effort.fitted)
    if len({one.patient for one in chosen}) < LEAST_PATIENTS:
        raise NotRun(f"fewer than {LEAST_PATIENTS} patients are audited")
    seen = [_part(one, window) for one in chosen]
    easy = scene.simulate(scene.law(CONTROL_COEFFICIENT), workshop.audited[:EASY], answered=False)
    nobody = proxies_of_nobody(workshop, scene.law())
    rounds = {
        "audited": (seen, scene.coefficient),
        "easy": ([_part(one, window) for one in easy], CONTROL_COEFFICIENT),
        "nobody": ([_part(one, window) for one in nobody], scene.coefficient),
    }
    found: dict[str, list[Layers]] = {}
    for name, (observations, a) in rounds.items():
        found[name] = []
        for number, one in enumerate(observations):
            layers = decompose(one.proxy, a, workshop.effort.iterations, scene.seed + number)
            found[name].append(layers)
            workshop.report(number + 1, len(observations), f"A6 {name}")
    scores = {
        name: [_better(layers, one.image) for layers, one in zip(found[name], some, strict=True)]
        for name, (some, _) in rounds.items()
    }
    overall = bootstrap_mean(scores["audited"], [one.patient for one in seen])
    mean = mean_image(scene.auxiliary, tile)[window]
    baseline = {
        "mean image": float(np.mean([ssim(mean, one.image) for one in seen])),
        "the proxy itself": float(np.mean([ssim(one.proxy, one.image) for one in seen])),
    }
    what = f"mixtures at a = {CONTROL_COEFFICIENT:g}"
    positive = Control(what, float(np.mean(scores["easy"])), low=CONTROL_SSIM)
    # The better of both here as well, for whomever it is compared with.
    people = [case.image[window] for case in truths(workshop)]
    missed = np.array([[_better(layers, image) for image in people] for layers in found["nobody"]])
    null = null_control(workshop, missed)
    details = {
        "iterations": workshop.effort.iterations,
        "images": [rounded(score) for score in scores["audited"]],
    }
    return [FINDING.measured(overall, baseline, positive, null, details)]


def _part(one: Observation, window: tuple[slice, ...]) -> Observation:
    """The middle, which is fitted: two networks for each proxy take too long for all of it."""
    return replace(one, proxy=one.proxy[window], image=one.image[window])


def _better(layers: Layers, image: Float32Array) -> float:
    return max(ssim(layer, image) for layer in layers)


def decompose(proxy: Float32Array, coefficient: float, steps: int, seed: int) -> Layers:
    """Two layers whose mixture is the proxy: the one weighted by a, and the other."""
    torch.manual_seed(seed)
    fabric = launch()
    dims = proxy.ndim - 1
    shown = torch.from_numpy(proxy)[None]
    networks = nn.ModuleList(
        context_network(dims, CODE_CHANNELS, len(proxy), FILTERS, first_stride=1) for _ in range(2)
    )
    codes = [torch.rand(1, CODE_CHANNELS, *proxy.shape[1:]) for _ in range(2)]
    optimizer = torch.optim.Adam(networks.parameters(), lr=LEARNING_RATE)
    layers: list[Tensor] = []
    for _ in range(steps):
        with fabric.autocast():
            layers = [
                torch.sigmoid(network(code + CODE_STEP * torch.randn_like(code)).float())
                for network, code in zip(networks, codes, strict=True)
            ]
        mixed = coefficient * layers[0] + (1 - coefficient) * layers[1]
        loss = l1_loss(mixed, shown) + EXCLUSION * _exclusion(*layers)
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
    first, second = (layer.detach()[0].numpy().astype(np.float32) for layer in layers)
    return first, second


def _exclusion(first: Tensor, second: Tensor) -> Tensor:
    """Small where no border is in both layers (Gandelsman et al. 2019)."""
    total = first.new_zeros(())
    for axis in range(2, first.ndim):
        borders = [torch.tanh(10 * layer.diff(dim=axis).abs()) for layer in (first, second)]
        total = total + (borders[0] * borders[1]).mean().sqrt()
    return total
