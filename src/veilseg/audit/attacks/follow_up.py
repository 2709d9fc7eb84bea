"""A2b: two scans of one person, with the same reference and with a new one."""

from collections.abc import Callable

import numpy as np
from scipy import fft

from veilseg.audit.attacks.averaging import MeanLaw, separated_mean
from veilseg.audit.findings import Control, DoesNotApply, Finding, Threat, rounded
from veilseg.audit.grids import fitted
from veilseg.audit.laws import MixtureLaw
from veilseg.audit.linear import LinearAttacker
from veilseg.audit.nulls import carried, null_of_images, said_to_show
from veilseg.audit.scene import evenly, on_the_wire
from veilseg.audit.separator import separator
from veilseg.audit.similarity import psnr_db, ssim
from veilseg.audit.workshop import Workshop
from veilseg.datasets.cases import PreparedCase
from veilseg.evaluation.bootstrap import bootstrap_difference, bootstrap_mean
from veilseg.payload import Float32Array
from veilseg.schemes.mixup.mixing import mix

FINDING = Finding("A2b", "Follow-up of one person", "image", Threat(proxies_per_subject=2), "SSIM")
# A re-export that is off by one voxel along the first axis.
SHIFT_AXIS = 1
# Of the guess, against what the difference says: it decides where that is noise.
GUESS_WEIGHT = 1e-3
# In SSIM, of integrating over averaging where the reference is the same.
LEAST_GAIN = 0.05
FROM_GUESS = "integrated difference, from what A5 finds"
INTEGRATED, AVERAGED = "integrated difference", "mean of both, linear attacker"
ALONE, SEPARATED = "trained network on one of them", "trained network on the mean of both"
SAME, NEW = "same reference on both scans", "a second, different proxy of a person (--allow-repeat)"

Attacker = Callable[[Float32Array, Float32Array], Float32Array]


def attack(workshop: Workshop) -> list[Finding]:
    """SSIM of the image that two scans' proxies give, the later scan shifted by one voxel.

    The strongest attacker is reported. With one reference and one fill the reference cancels:
    ``z₁ − z₂ = a·(x(v) − x(v − 1))``, a derivative, which is integrated. With two references their
    mean hides less than one does (A2), and one proxy alone no more than ever (A5).
    """
    scene = workshop.scene
    law = scene.law()
    if not isinstance(law, MixtureLaw):
        raise DoesNotApply("nothing is mixed")
    seen = workshop.observed()
    patients = [one.patient for one in seen]
    truths = [one.image for one in seen]
    tile = scene.manifest.tile_shape
    audited = [fitted(case, tile) for case in workshop.audited]
    others = [fitted(case, tile) for case in evenly(carried(workshop), len(said_to_show(workshop)))]
    alone = float(np.mean([ssim(one.proxy, one.image) for one in seen]))
    baseline = {"mean image": workshop.ssim_of_nobody(), "the proxy itself": alone}
    findings = []
    positive = None
    for setting, same in ((SAME, True), (NEW, False)):
        attackers = _attackers(workshop, law, same)
        pairs = [_proxies(scene.seed, law, case, n, same) for n, case in enumerate(audited)]
        scores = {
            name: [ssim(of(*pair), truth) for pair, truth in zip(pairs, truths, strict=True)]
            for name, of in attackers.items()
        }
        best = max(scores, key=lambda name: float(np.mean(scores[name])))
        if positive is None:
            gain = bootstrap_difference(scores[INTEGRATED], scores[AVERAGED], patients)
            what = "same reference: gain of integrating over averaging, lower end"
            positive = Control(what, gain.low, low=LEAST_GAIN)
        nobody = [_proxies(scene.seed, law, case, n, same) for n, case in enumerate(others)]
        null = null_of_images(workshop, [attackers[best](*pair) for pair in nobody])
        details = {
            "strongest": best,
            "ssim": {name: rounded(float(np.mean(some))) for name, some in scores.items()},
            "psnr_db_of_the_change": rounded(
                float(np.mean([_of_change(*both, law) for both in zip(pairs, truths, strict=True)]))
            ),
        }
        findings.append(
            FINDING.measured(
                *(bootstrap_mean(scores[best], patients), baseline, positive, null),
                details,
                setting=setting,
                occurs="never" if same else "if asked for",
            )
        )
    return findings


def _attackers(workshop: Workshop, law: MixtureLaw, same: bool) -> dict[str, Attacker]:
    """What is made of two proxies, by name."""
    linear = LinearAttacker.fitted(workshop.scene, MeanLaw(law, (1 if same else 2,)))
    a = np.float32(law.coefficient)

    def averaged(first: Float32Array, later: Float32Array) -> Float32Array:
        return linear((first + np.roll(later, -1, axis=SHIFT_AXIS)) / np.float32(2))

    def integrated(first: Float32Array, later: Float32Array) -> Float32Array:
        return integral((first - later) / a, averaged(first, later))

    attackers: dict[str, Attacker] = {INTEGRATED: integrated, AVERAGED: averaged}
    network = separator(workshop, law.coefficient, sees_answer=False)
    if same:
        attackers[FROM_GUESS] = lambda first, later: integral(
            (first - later) / a, network.separate(first)[0]
        )
        return attackers
    attackers[ALONE] = lambda first, _: network.separate(first)[0]
    if workshop.effort.thorough:

        def separated(first: Float32Array, later: Float32Array) -> Float32Array:
            both = (first + np.roll(later, -1, axis=SHIFT_AXIS)) / np.float32(2)
            return separated_mean(workshop, both, 2)[0]

        attackers[SEPARATED] = separated
    return attackers


def _of_change(
    pair: tuple[Float32Array, Float32Array], image: Float32Array, law: MixtureLaw
) -> float:
    """How well the difference of two proxies shows what changed between two scans."""
    first, later = pair
    changed = image - np.roll(image, 1, axis=SHIFT_AXIS)
    return psnr_db((first - later) / np.float32(law.coefficient), changed)


def integral(derivative: Float32Array, guess: Float32Array) -> Float32Array:
    """The image whose difference along the shift is given, near a guess where that says nothing.

    Minimises ``‖x − roll(x) − d‖² + λ·‖x − guess‖²`` along each line; circular, so that a Fourier
    transform solves it in closed form.
    """
    size = derivative.shape[SHIFT_AXIS]
    shape = [1] * derivative.ndim
    shape[SHIFT_AXIS] = size
    response = (1 - np.exp(-2j * np.pi * np.arange(size) / size)).reshape(shape)
    d, g = (fft.fft(maps, axis=SHIFT_AXIS) for maps in (derivative, guess))
    found = (response.conj() * d + GUESS_WEIGHT * g) / (np.abs(response) ** 2 + GUESS_WEIGHT)
    return np.asarray(np.clip(fft.ifft(found, axis=SHIFT_AXIS).real, 0, 1), dtype=np.float32)


def _proxies(
    seed: int, law: MixtureLaw, case: PreparedCase, number: int, same: bool
) -> tuple[Float32Array, Float32Array]:
    """Two proxies of one person, the later one of the image shifted by a voxel."""
    rng = np.random.default_rng([seed, 6, number])
    first, second = (law.reference(case, rng) for _ in range(2))
    fills = [np.random.default_rng([seed, 7, number, 0 if same else scan]) for scan in range(2)]
    later = np.roll(case.image, 1, axis=SHIFT_AXIS)
    return (
        on_the_wire(mix(case.image, first, law.coefficient, fills[0])[0]),
        on_the_wire(mix(later, first if same else second, law.coefficient, fills[1])[0]),
    )
