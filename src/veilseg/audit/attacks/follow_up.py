"""A2b: two scans of one person, with the same reference and with a new one."""

import numpy as np

from veilseg.audit.attacks.averaging import MeanLaw
from veilseg.audit.chance import permutation_interval
from veilseg.audit.findings import Control, Finding, NotRun, Threat
from veilseg.audit.grids import central
from veilseg.audit.laws import MixtureLaw
from veilseg.audit.linear import LinearAttacker
from veilseg.audit.scene import on_the_wire
from veilseg.audit.similarity import similarities, ssim
from veilseg.audit.workshop import NULL_CASES, Workshop
from veilseg.evaluation.bootstrap import bootstrap_mean
from veilseg.payload import Float32Array
from veilseg.schemes.references import Reference, fill_background

FINDING = Finding("A2b", "Follow-up of one person", "image", Threat(proxies_per_subject=2), "SSIM")
# A re-export that is off by one voxel along the first axis.
SHIFT_AXIS = 1
INTEGRATED, AVERAGED = "integrated difference", "mean of both, linear attacker"
SAME, NEW = "same reference on both scans", "new reference, as with --allow-repeat"


def attack(workshop: Workshop) -> list[Finding]:
    """SSIM of the image that two scans' proxies give, the later scan shifted by one voxel.

    Two attackers, the stronger one is reported. With one reference and one fill the reference
    cancels: ``z₁ − z₂ = a·(x(v) − x(v − 1))``, a derivative, whose running sum is the image but for
    a constant per line. With two references their mean hides less than one does (A2).
    """
    scene = workshop.scene
    law = scene.law()
    if not isinstance(law, MixtureLaw):
        raise NotRun("nothing is mixed")
    seen = workshop.observed()
    patients = [one.patient for one in seen]
    truths = [one.image for one in seen]
    pairs = {SAME: _proxies(workshop, law, True), NEW: _proxies(workshop, law, False)}
    scores, tried = {}, {}
    for setting, of_setting in pairs.items():
        linear = LinearAttacker.fitted(scene, MeanLaw(law, (1 if setting == SAME else 2,)))
        found = {
            INTEGRATED: [_integrated((z - later) / law.coefficient) for z, later in of_setting],
            AVERAGED: [linear((z + _back(later)) / np.float32(2)) for z, later in of_setting],
        }
        by_attacker = {
            name: [ssim(image, truth) for image, truth in zip(images, truths, strict=True)]
            for name, images in found.items()
        }
        best = max(by_attacker, key=lambda name: float(np.mean(by_attacker[name])))
        scores[setting], tried[setting] = by_attacker[best], (best, found[best])
    alone = float(np.mean([ssim(one.proxy, one.image) for one in seen]))
    of_same = tried[SAME][1]
    wrong = similarities([*of_same[1:], of_same[0]][:NULL_CASES], truths[:NULL_CASES])
    low, high = permutation_interval(wrong, scene.seed)
    positive = Control("same reference: SSIM", float(np.mean(scores[SAME])), low=alone)
    null = Control("scored as other people", float(np.diag(wrong).mean()), low, high)
    return [
        FINDING.measured(
            bootstrap_mean(scores[setting], patients),
            *(
                {"mean image": workshop.ssim_of_nobody(), "the proxy itself": alone},
                positive,
                null,
                {"strongest": tried[setting][0]},
            ),
            setting=setting,
            occurs="never" if setting == SAME else "if asked for",
        )
        for setting in pairs
    ]


def _proxies(
    workshop: Workshop, law: MixtureLaw, same: bool
) -> list[tuple[Float32Array, Float32Array]]:
    """Of each person two proxies, the later one of the image shifted by a voxel."""
    found = []
    for number, (one, case) in enumerate(zip(workshop.observed(), workshop.audited, strict=True)):
        rng = np.random.default_rng([workshop.scene.seed, 6, number])
        first, second = (law.reference(case, rng) for _ in range(2))
        seeds = [[workshop.scene.seed, 7, number, scan] for scan in (0, 0 if same else 1)]
        shifted = np.roll(one.image, 1, axis=SHIFT_AXIS)
        found.append(
            (
                _mixed(one.image, first, law.coefficient, seeds[0]),
                _mixed(shifted, first if same else second, law.coefficient, seeds[1]),
            )
        )
    return found


def _back(later: Float32Array) -> Float32Array:
    return np.roll(later, -1, axis=SHIFT_AXIS)


def _mixed(
    image: Float32Array, reference: Reference, coefficient: float, fill_seed: list[int]
) -> Float32Array:
    """A mixture as a server gets it, whose fills are fixed by a seed."""
    rng = np.random.default_rng(fill_seed)
    window = central(reference.labels.shape, image.shape[1:])
    filled = fill_background(reference.image[(slice(None), *window)], rng)
    a = np.float32(coefficient)
    return on_the_wire(a * fill_background(image, rng) + (1 - a) * filled)


def _integrated(derivative: Float32Array) -> Float32Array:
    """The running sum along the shift, each line with the mean that a mid-grey image has."""
    image = np.cumsum(derivative, axis=SHIFT_AXIS)
    image += 0.5 - image.mean(axis=SHIFT_AXIS, keepdims=True)
    return np.clip(image, 0, 1).astype(np.float32)
