"""A1 where the reference is known: the patient is what the mixture leaves, but for rounding."""

import numpy as np

from veilseg.audit.findings import Control, Finding, Threat
from veilseg.audit.laws import MixtureLaw
from veilseg.audit.nulls import null_of_images, proxies_of_nobody
from veilseg.audit.scene import Observation
from veilseg.audit.workshop import Workshop
from veilseg.evaluation.bootstrap import bootstrap_mean
from veilseg.payload import Float32Array

FINDING = Finding(
    *("A1", "Known reference", "image"),
    Threat(knows_networks=False, auxiliary_images=False, colluding_site=True),
    "largest error in tissue",
    "lower leaks more",
    setting="the site gives its reference away",
    occurs="never",
)
# Of intensities in [0, 1]; sixteen bits on the wire round by at most 2^-12, which a divides.
CONTROL_ERROR, ROUNDING = 1e-3, 2.0**-12


def known_reference(workshop: Workshop, law: MixtureLaw) -> Finding:
    """``x = (z − (1 − a)·r) / a``: exact in exact arithmetic, so all is up to the secret."""
    a, seen = law.coefficient, workshop.observed()
    errors = [_error(_unmixed(one, a), one.image) for one in seen]
    overall = bootstrap_mean(errors, [one.patient for one in seen])
    alone = float(np.mean([_error(one.proxy, one.image) for one in seen]))
    what = f"every voxel of tissue, at FP16 and a = {a:g}"
    positive = Control(what, max(errors), high=max(CONTROL_ERROR, 2 * ROUNDING / a))
    nobody = proxies_of_nobody(workshop, law)
    null = null_of_images(workshop, [np.clip(_unmixed(one, a), 0, 1) for one in nobody])
    return FINDING.measured(
        *(overall, {"the proxy itself": alone}, positive, null),
        setting=FINDING.setting,
        occurs=FINDING.occurs,
    )


def _unmixed(one: Observation, coefficient: float) -> Float32Array:
    assert one.reference is not None
    return np.asarray((one.proxy - (1 - coefficient) * one.reference) / coefficient, np.float32)


def _error(found: Float32Array, image: Float32Array) -> float:
    """Outside the patient's tissue only the fill is found."""
    return float(np.abs(found - image)[image > 0].max(initial=0))
