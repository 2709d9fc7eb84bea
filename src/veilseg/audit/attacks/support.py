"""A4: voxels of a mixture that show the patient alone."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from veilseg.audit.findings import Control, Finding, NotRun, Threat
from veilseg.audit.laws import MixtureLaw
from veilseg.audit.scene import Observation
from veilseg.audit.workshop import Workshop
from veilseg.datasets.cases import PreparedCase
from veilseg.evaluation.bootstrap import bootstrap_mean
from veilseg.schemes.references import with_contrast
from veilseg.training.interface import Arrays, one_hot

FINDING = Finding("A4", "Voxels of the patient alone", "image", Threat(), "% of voxels")
# Sixteen bits on the wire: a number in [0, 1] is off by a quarter of a thousandth at the most.
WIRE_ERROR = 2.0**-12
# Fewer than this where backgrounds are not filled, and there is nothing that filling could hide.
LEAST_PERCENT = 1.0


@dataclass(frozen=True)
class UnfilledLaw:
    """Mixtures whose backgrounds stay empty, as they would without the fill."""

    law: MixtureLaw

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:
        a = np.float32(self.law.coefficient)
        reference = with_contrast(self.law.reference(case, rng), case.image)
        classes = self.law.classes
        return {
            "proxy": a * case.image + (1 - a) * reference.image,
            "image": case.image,
            "target": one_hot(case.labels, classes),
            "reference": reference.image,
            "reference_labels": one_hot(reference.labels, classes),
        }


def attack(workshop: Workshop) -> list[Finding]:
    """Per cent of the patient's voxels that a mixture shows as they are, but for the factor a.

    The attacker divides the proxy by a, which is public, where the reference is empty. It would
    have to find those places; that it knows them is granted, so this is the most it could get.
    """
    scene = workshop.scene
    law = scene.law()
    if not isinstance(law, MixtureLaw):
        raise NotRun("a proxy is the image: every voxel is the patient's alone")
    seen = workshop.observed()
    empty = scene.simulate(UnfilledLaw(law), workshop.audited, answered=False)
    overall = bootstrap_mean(
        [_bare_percent(one, scene.coefficient) for one in seen], [one.patient for one in seen]
    )
    unfilled = float(np.mean([_bare_percent(one, scene.coefficient) for one in empty]))
    if unfilled < LEAST_PERCENT:
        raise NotRun("images and references have no background to be bare")
    nobody = [replace(one, image=other.image) for one, other in zip(seen, _next(seen), strict=True)]
    chance = [_bare_percent(one, scene.coefficient) for one in nobody]
    positive = Control("backgrounds not filled", unfilled, low=LEAST_PERCENT)
    null = Control("another patient's image", float(np.mean(chance)), 0.0, LEAST_PERCENT)
    return [FINDING.measured(overall, {"backgrounds not filled": unfilled}, positive, null)]


def _bare_percent(one: Observation, coefficient: float) -> float:
    """Voxels of the patient at which the reference contributes nothing that the wire could show."""
    present = (one.image > 0).any(axis=0)
    alone = (np.abs(one.proxy - np.float32(coefficient) * one.image) <= WIRE_ERROR).all(axis=0)
    return 100 * float((alone & present).sum() / max(1, present.sum()))


def _next(seen: list[Observation]) -> list[Observation]:
    return [*seen[1:], seen[0]]
