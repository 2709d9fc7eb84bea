"""A3: proxies of several people that were mixed with one reference."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from veilseg.audit.findings import Control, DoesNotApply, Finding, Threat, rounded
from veilseg.audit.grids import fitted
from veilseg.audit.laws import MixtureLaw
from veilseg.audit.nulls import null_of_images, proxies_of_nobody
from veilseg.audit.scene import Observation
from veilseg.audit.similarity import ssim
from veilseg.audit.workshop import Workshop, mean_image
from veilseg.datasets.cases import PreparedCase
from veilseg.evaluation.bootstrap import bootstrap_difference, bootstrap_mean
from veilseg.payload import Float32Array
from veilseg.schemes.references import Reference
from veilseg.training.examples import Arrays

FINDING = Finding("A3", "One reference for several people", "image", Threat(), "SSIM")
# In SSIM, of all proxies over one.
LEAST_GAIN = 0.05
SHARED, DEFAULT = "one reference for all", "a reference for each"


@dataclass(frozen=True)
class OneReferenceLaw:
    """Every image is mixed with the same reference, fill and all, which the scheme never does."""

    law: MixtureLaw
    reference: Reference
    seed: int

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:  # noqa: ARG002 - nothing random
        same = np.random.default_rng([self.seed, 4])
        return self.law.mixed(case, self.reference, same)


def attack(workshop: Workshop) -> list[Finding]:
    """SSIM after the shared reference is estimated from all proxies and subtracted.

    ``r̂ = (mean z − a·mean x) / (1 − a)``, with the mean image of the attacker's own people.
    """
    scene = workshop.scene
    law = scene.law()
    if not isinstance(law, MixtureLaw):
        raise DoesNotApply("nothing is mixed")
    finding = replace(FINDING, threat=replace(FINDING.threat, subjects=len(workshop.audited)))
    tile = scene.manifest.tile_shape
    people = [fitted(case, tile) for case in workshop.audited]
    base = law.reference(people[0], np.random.default_rng([scene.seed, 5]))
    shared = scene.simulate(OneReferenceLaw(law, base, scene.seed), people, answered=False)
    mean = mean_image(scene.auxiliary, tile)
    by_count = {
        count: unmixed(shared[:count], mean, law.coefficient) for count in _counts(len(shared))
    }
    default = workshop.observed()
    found = unmixed(default, mean, law.coefficient)
    alone = [ssim(one.proxy, one.image) for one in shared]
    patients = [one.patient for one in shared]
    together = [ssim(x, one.image) for x, one in zip(by_count[len(shared)], shared, strict=True)]
    gain = bootstrap_difference(together, alone, patients)
    values = [ssim(x, one.image) for x, one in zip(found, default, strict=True)]
    nobody = proxies_of_nobody(workshop, OneReferenceLaw(law, base, scene.seed))
    null = null_of_images(workshop, unmixed(nobody, mean, law.coefficient))
    positive = Control(
        "one reference for all against the proxy itself: lower end of the gain",
        gain.low,
        low=LEAST_GAIN,
    )
    curve = {
        str(count): rounded(
            float(np.mean([ssim(x, one.image) for x, one in zip(some, shared, strict=False)]))
        )
        for count, some in by_count.items()
    }
    baseline = {"mean image": workshop.ssim_of_nobody(), "the proxy itself": float(np.mean(alone))}
    details = {"ssim_by_people": curve}
    of_shared, of_default = (bootstrap_mean(some, patients) for some in (together, values))
    return [
        finding.measured(of_shared, baseline, positive, null, details, SHARED, "never"),
        finding.measured(of_default, baseline, positive, null, setting=DEFAULT),
    ]


def unmixed(
    seen: Sequence[Observation], mean: Float32Array, coefficient: float
) -> list[Float32Array]:
    """Images found in proxies that share a reference, which is estimated by least squares.

    Parameters
    ----------
    seen : sequence of Observation
    mean : ndarray, shape (C, *tile), float32
        The mean image of other people.
    coefficient : float
        Weight of the patient.
    """
    proxies = np.stack([one.proxy for one in seen])
    reference = (proxies.mean(axis=0) - coefficient * mean) / (1 - coefficient)
    found = (proxies - (1 - coefficient) * reference) / coefficient
    return [np.clip(one, 0, 1) for one in found.astype(np.float32)]


def _counts(people: int) -> list[int]:
    """2, 4, 8, … and all."""
    return [*(2**power for power in range(1, people.bit_length()) if 2**power < people), people]
