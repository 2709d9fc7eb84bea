"""Training of ``noise``: the segmentation network of ``plain``, on images under noise."""

import math
from typing import Any

from numpy.random import Generator

from veilseg.datasets.cases import PreparedCase
from veilseg.payload import Float32Array
from veilseg.schemes.noise.adding import with_noise
from veilseg.schemes.noise.leakage import DELTA, epsilon
from veilseg.schemes.plain.training import PlainTraining
from veilseg.schemes.references import Template
from veilseg.schemes.strength import DEFAULT_STRENGTHS, variant_of
from veilseg.training.examples import Arrays

DEFAULT_STRENGTH = DEFAULT_STRENGTHS["noise"]


class NoiseTraining(PlainTraining):
    """One segmentation network; every example has noise of its own.

    Parameters
    ----------
    spatial_dims, channels, classes : int
    template : Template
        For a self-test image that is nobody's.
    strength : float
        Standard deviation of the noise.
    """

    name = "noise"

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        classes: int,
        template: Template,
        strength: float = DEFAULT_STRENGTH,
    ) -> None:
        super().__init__(spatial_dims, channels, classes, template)
        self.strength, self.channels = strength, channels
        self.variant = variant_of(strength)

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:
        return super().example(case, rng) | {"proxy": with_noise(case.image, self.strength, rng)}

    def selftest_image(self, rng: Generator) -> Float32Array:
        return with_noise(super().selftest_image(rng), self.strength, rng)

    def settings(self) -> dict[str, Any]:
        values = self.channels * math.prod(self.template.tissues.shape)
        return {
            "strength": self.strength,
            # What this noise would buy one tile: so large an ε promises nothing, and is no claim.
            "epsilon": round(epsilon(self.strength, values), 1),
            "delta": DELTA,
        }
