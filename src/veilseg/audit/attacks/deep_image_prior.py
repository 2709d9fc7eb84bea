"""A6: Double-DIP (arXiv:1812.00467): two untrained networks share one mixture between them.

A weak floor: it needs nothing but the one proxy.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from veilseg.audit.chance import permutation_interval
from veilseg.audit.findings import Control, Finding, NotRun, Threat, rounded
from veilseg.audit.grids import central
from veilseg.audit.laws import Law, NobodyLaw
from veilseg.audit.scene import Observation, Scene
from veilseg.audit.similarity import similarities, ssim
from veilseg.audit.workshop import NULL_CASES, Workshop, mean_image
from veilseg.datasets.cases import PreparedCase
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
CONTROL_COEFFICIENT, CONTROL_SSIM = 0.9, 0.9

Layers = tuple[Float32Array, Float32Array]


def attack(workshop: Workshop) -> list[Finding]:
    """SSIM of the better of the two layers: which is the patient, it cannot say."""
    scene = workshop.scene
    if not scene.mixes:
        raise NotRun("nothing is mixed")
    steps = workshop.effort.iterations
    seen = [_middle(one) for one in workshop.observed()[: workshop.effort.fitted]]
    people = workshop.audited[: len(seen)]
    nobody = NobodyLaw(scene.law(), scene.auxiliary)
    rounds = {
        "audited": (seen, scene.coefficient),
        "easy": (
            _simulated(scene, scene.law(CONTROL_COEFFICIENT), people[:1]),
            CONTROL_COEFFICIENT,
        ),
        "nobody": (_simulated(scene, nobody, people), scene.coefficient),
    }
    layers: dict[str, list[Layers]] = {}
    for name, (observations, a) in rounds.items():
        layers[name] = []
        for number, one in enumerate(observations):
            layers[name].append(decompose(one.proxy, a, steps, scene.seed + number))
            workshop.report(number + 1, len(observations), f"A6 {name}")
    scores = [_best(pair, one) for pair, one in zip(layers["audited"], seen, strict=True)]
    overall = bootstrap_mean(scores, [one.patient for one in seen])
    easy = _best(layers["easy"][0], rounds["easy"][0][0])
    truths = [_middle(one).image for one in workshop.observed()[:NULL_CASES]]
    wrong = np.maximum(
        *(similarities([pair[layer] for pair in layers["nobody"]], truths) for layer in range(2))
    )
    low, high = permutation_interval(wrong, scene.seed)
    alone = float(np.mean([ssim(one.proxy, one.image) for one in seen]))
    tile = scene.manifest.tile_shape
    mean = mean_image(scene.auxiliary, tile)[(slice(None), *central(tile, _window(tile)))]
    nothing = float(np.mean([ssim(mean, truth) for truth in truths]))
    baseline = {"mean image": nothing, "the proxy itself": alone}
    positive = Control(f"mixtures at a = {CONTROL_COEFFICIENT:g}", easy, low=CONTROL_SSIM)
    null = Control("proxies of other people", float(np.diag(wrong).mean()), low, high)
    details = {"iterations": steps, "images": [rounded(score) for score in scores]}
    return [FINDING.measured(overall, baseline, positive, null, details)]


def _simulated(scene: Scene, law: Law, people: Sequence[PreparedCase]) -> list[Observation]:
    return [_middle(one) for one in scene.simulate(law, people, answered=False)]


def _window(tile: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(min(size, LARGEST_SIDE[len(tile)]) for size in tile)


def _middle(one: Observation) -> Observation:
    """What is fitted: two networks for each proxy take too long for all of it."""
    tile = one.labels.shape
    window = (slice(None), *central(tile, _window(tile)))
    return replace(one, proxy=one.proxy[window], image=one.image[window])


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


def _best(layers: Layers, one: Observation) -> float:
    return max(ssim(layer, one.image) for layer in layers)
