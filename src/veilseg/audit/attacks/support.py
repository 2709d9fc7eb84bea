"""A4: voxels of a mixture that show the patient alone."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from veilseg.audit.findings import Control, DoesNotApply, Finding, Threat
from veilseg.audit.laws import MixtureLaw
from veilseg.audit.nulls import null_control, proxies_of_nobody, truths
from veilseg.audit.scene import Observation
from veilseg.audit.workshop import Workshop
from veilseg.datasets.cases import PreparedCase
from veilseg.evaluation.bootstrap import bootstrap_mean
from veilseg.payload import Float32Array
from veilseg.schemes.references import with_contrast
from veilseg.training.examples import Arrays, one_hot

FINDING = Finding("A4", "Voxels of the patient alone", "image", Threat(), "% of voxels")
# A voxel that comes out nearer than this to what it is.
CLOSE = 0.01
# Of the patient's voxels, behind an empty reference: with fewer, filling could hide nothing.
LEAST_PERCENT = 1.0
# Rounding on the wire may cost the control some of them.
SLACK = 0.02


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
    A voxel counts where it comes out within a hundredth of the range.
    """
    scene = workshop.scene
    law = scene.law()
    if not isinstance(law, MixtureLaw):
        if scene.hides or scene.encodes:
            raise DoesNotApply("nothing is mixed")
        raise DoesNotApply("a proxy is the image: every voxel is the patient's alone")
    seen, a = workshop.observed(), law.coefficient
    overall = bootstrap_mean(
        [_bare_percent(one.proxy, one.image, a) for one in seen], [one.patient for one in seen]
    )
    unfilled = scene.simulate(UnfilledLaw(law), workshop.audited, answered=False)
    empty = float(np.mean([_empty_percent(one) for one in unfilled]))
    if empty < LEAST_PERCENT:
        raise DoesNotApply("references have no background that could be bare")
    bare = float(np.mean([_bare_percent(one.proxy, one.image, a) for one in unfilled]))
    positive = Control("backgrounds not filled", bare, low=empty * (1 - SLACK))
    nobody = proxies_of_nobody(workshop, law)
    people = truths(workshop)
    scores = np.array([[_bare_percent(o.proxy, p.image, a) for p in people] for o in nobody])
    null = null_control(workshop, scores)
    return [FINDING.measured(overall, {"backgrounds not filled": bare}, positive, null)]


def _bare_percent(proxy: Float32Array, image: Float32Array, coefficient: float) -> float:
    """Voxels of the patient that the mixture shows, but for the factor."""
    present = (image > 0).any(axis=0)
    shown = (np.abs(proxy / np.float32(coefficient) - image) <= CLOSE).all(axis=0)
    return 100 * float((shown & present).sum() / max(1, present.sum()))


def _empty_percent(one: Observation) -> float:
    """Voxels of the patient where the reference is empty."""
    assert one.reference is not None
    present = (one.image > 0).any(axis=0)
    empty = (one.reference == 0).all(axis=0)
    return 100 * float((empty & present).sum() / max(1, present.sum()))
