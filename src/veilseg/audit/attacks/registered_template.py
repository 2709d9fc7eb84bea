"""A1 on what sites do by default: the published template is registered to each mixture."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from veilseg.audit.findings import Control, Finding, Threat
from veilseg.audit.grids import fitted
from veilseg.audit.laws import MixtureLaw
from veilseg.audit.nulls import null_of_images, proxies_of_nobody
from veilseg.audit.registration import registered
from veilseg.audit.scene import Observation, evenly
from veilseg.audit.similarity import ssim
from veilseg.audit.workshop import Workshop
from veilseg.datasets.cases import PreparedCase
from veilseg.evaluation.bootstrap import bootstrap_mean
from veilseg.payload import Float32Array
from veilseg.schemes.references import Reference, Template
from veilseg.training.examples import Arrays

FINDING = Finding(
    *("A1", "Registration of the template", "image"),
    Threat(knows_networks=False, auxiliary_images=False),
    "SSIM",
    setting="synthetic references",
)
# Tissues keep their mean intensities but for a few hundredths.
RECOLOURING = 1.0
# Of what the reference itself would show, where it is the template, neither warped nor textured.
CONTROL_SHARE = 0.95
MOST_PEOPLE = 20


@dataclass(frozen=True)
class TemplateLaw:
    """Mixtures whose reference is the template as it is published."""

    law: MixtureLaw
    rendered: PreparedCase

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:
        return self.law.mixed(case, Reference(self.rendered.image, self.rendered.labels), rng)


def rendered(template: Template, tile: tuple[int, ...]) -> PreparedCase:
    """The template with the mean intensity of each tissue, on the tile's grid."""
    image = np.stack([mean.take(template.tissues) for mean in template.mean.T])
    labels = template.label_of_tissue.take(template.tissues)
    return fitted(PreparedCase("", "", image.astype(np.float32), labels), tile)


def registered_template(workshop: Workshop, law: MixtureLaw) -> Finding:
    """SSIM of what is left of a mixture once the template, bent and recoloured, is taken out.

    The attacker needs no image of its own: the template is in every site's half.
    """
    assert law.template is not None
    scene, steps = workshop.scene, workshop.effort.registration
    candidate = rendered(law.template, scene.manifest.tile_shape)

    def attacked(proxy: Float32Array) -> Float32Array:
        given = proxy, [candidate], law.coefficient, steps
        return registered(*given, warped=True, recolouring=RECOLOURING).guess().image

    seen = evenly(workshop.observed(), MOST_PEOPLE)
    found = []
    for number, one in enumerate(seen):
        found.append(attacked(one.proxy))
        workshop.report(number + 1, len(seen), "A1 template")
    scores = [ssim(image, one.image) for image, one in zip(found, seen, strict=True)]
    overall = bootstrap_mean(scores, [one.patient for one in seen])
    people = [fitted(case, scene.manifest.tile_shape) for case in evenly(workshop.audited, 3)]
    easy = scene.simulate(TemplateLaw(law, candidate), people, answered=False)
    value = np.mean([ssim(attacked(one.proxy), one.image) for one in easy])
    # Not the whole patient: its background is filled before it is mixed.
    known = np.mean([ssim(without_reference(one, law.coefficient), one.image) for one in easy])
    what = f"the template itself is mixed in (SSIM {known:.2f} for who has it as it was mixed)"
    positive = Control(what, float(value), low=CONTROL_SHARE * float(known))
    nobody = [attacked(one.proxy) for one in proxies_of_nobody(workshop, law)]
    baseline = {
        "mean image": workshop.ssim_of_nobody(),
        "the proxy itself": float(np.mean([ssim(one.proxy, one.image) for one in seen])),
    }
    null = null_of_images(workshop, nobody)
    return FINDING.measured(overall, baseline, positive, null)


def without_reference(one: Observation, coefficient: float) -> Float32Array:
    """The mixture without its reference, as it was mixed."""
    assert one.reference is not None
    found = (one.proxy - (1 - coefficient) * one.reference) / coefficient
    return np.clip(found, 0, 1).astype(np.float32)
