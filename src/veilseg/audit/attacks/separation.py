"""A5: a network, trained on fresh mixtures of other people, takes the patient out of one proxy."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veilseg.audit.findings import Control, DoesNotApply, Finding, Threat, rounded
from veilseg.audit.fitting import run
from veilseg.audit.laws import RawLaw
from veilseg.audit.linear import LinearAttacker
from veilseg.audit.nulls import null_of_images, proxies_of_nobody
from veilseg.audit.scene import Observation
from veilseg.audit.separator import easy_separator, separated, separator
from veilseg.audit.similarity import ms_ssim, psnr_db, ssim
from veilseg.audit.workshop import Workshop
from veilseg.evaluation.bootstrap import bootstrap_mean
from veilseg.evaluation.dice import dice_per_class, mean_foreground
from veilseg.networks.segmenter import Segmenter
from veilseg.payload import Float32Array
from veilseg.training.losses import soft_target_loss

FINDING = Finding("A5", "Supervised separation", "image", Threat(), "SSIM")
CONTROL_SSIM = 0.95
PROXY, LINEAR, TRAINED = "the proxy itself", "linear attacker", "trained network"

Attacker = Callable[[Sequence[Observation]], list[Float32Array]]


def attack(workshop: Workshop) -> list[Finding]:
    """A5: how much of the patient image a trained network gets out of one proxy."""
    if workshop.scene.encodes:
        raise DoesNotApply("A10 inverts encodings")
    scene, seen = workshop.scene, workshop.observed()
    patients = [one.patient for one in seen]
    truths = [one.image for one in seen]
    attackers = attackers_of(workshop)
    found = {name: attack_on(seen) for name, attack_on in attackers.items()}
    scores = {
        name: [ssim(one, truth) for one, truth in zip(images, truths, strict=True)]
        for name, images in found.items()
    }
    best = max(scores, key=lambda name: float(np.mean(scores[name])))
    overall = bootstrap_mean(scores[best], patients)
    details: dict[str, Any] = {
        "strongest": best,
        "ssim": {name: rounded(float(np.mean(values))) for name, values in scores.items()},
        "ms_ssim": _mean(ms_ssim, found[best], truths),
        "psnr_db": _mean(psnr_db, found[best], truths),
    }
    if scene.mixes:
        references = [one.reference for one in seen if one.reference is not None]
        of_reference = [ssim(one, r) for one, r in zip(found[best], references, strict=True)]
        details["ssim_best_of_two"] = rounded(
            float(np.mean(np.maximum(scores[best], of_reference)))
        )
    if workshop.effort.thorough:
        labels = [one.labels for one in seen]
        details["dice_of_anatomy"] = _dice_of_anatomy(workshop, found[best], labels)
        details["dice_of_anatomy_in_raw_images"] = _dice_of_anatomy(workshop, truths, labels)
    baseline = {
        "mean image": workshop.ssim_of_nobody(),
        **{name: float(np.mean(values)) for name, values in scores.items() if name != best},
    }
    nobody = proxies_of_nobody(workshop, scene.law(), answered=best == TRAINED)
    null = null_of_images(workshop, attackers[best](nobody))
    return [FINDING.measured(overall, baseline, _positive(workshop), null, details)]


def attackers_of(workshop: Workshop) -> dict[str, Attacker]:
    """Images that are made of observations, by name; a network is trained when first asked."""
    scene = workshop.scene
    attackers: dict[str, Attacker] = {PROXY: lambda seen: [one.proxy for one in seen]}
    if scene.hides:
        linear = LinearAttacker.fitted(scene, scene.law())
        attackers[LINEAR] = lambda seen: [linear(one.proxy) for one in seen]
        attackers[TRAINED] = lambda seen: [
            image for image, _ in separated(separator(workshop, scene.coefficient, True), seen)
        ]
    return attackers


def _dice_of_anatomy(
    workshop: Workshop, images: Sequence[Float32Array], labels: Sequence[NDArray[np.uint8]]
) -> float | None:
    """Whether organs are where they were, as a network of the attacker for raw images sees them."""
    scene = workshop.scene
    kinds = len(scene.manifest.tile_shape), len(scene.manifest.channels), scene.classes
    network = workshop.trained(
        "anatomy",
        lambda: Segmenter(*kinds),
        RawLaw(scene.classes),
        lambda network, batch: soft_target_loss(network(batch["proxy"]), batch["target"]),
        steps=max(1, workshop.effort.steps // 2),
    )
    found = [run(network, image).argmax(axis=0).astype(np.uint8) for image in images]
    scores = [
        mean_foreground(dice_per_class(one, truth, scene.classes))
        for one, truth in zip(found, labels, strict=True)
    ]
    return rounded(float(np.nanmean(scores)))


def _positive(workshop: Workshop) -> Control:
    """The same attack, trained and tried where the proxy is nearly the patient."""
    scene = workshop.scene
    if not scene.hides:
        seen = workshop.observed()
        value = np.mean([ssim(one.proxy, one.image) for one in seen])
        return Control("the proxy is the image", float(value), low=CONTROL_SSIM)
    network, law, what = easy_separator(workshop)
    seen = scene.simulate(law, workshop.audited, answered=False)
    value = np.mean(
        [
            ssim(image, one.image)
            for (image, _), one in zip(separated(network, seen), seen, strict=True)
        ]
    )
    return Control(what, float(value), low=CONTROL_SSIM)


def _mean(
    measure: Callable[[Float32Array, Float32Array], float],
    found: Sequence[Float32Array],
    truths: Sequence[Float32Array],
) -> float | None:
    return rounded(
        float(np.mean([measure(one, truth) for one, truth in zip(found, truths, strict=True)]))
    )
