"""Mixtures that the package does not train by."""

from typing import Any

from numpy.random import Generator

from veilseg.audit.laws import MixtureLaw, SweptLaw
from veilseg.datasets.cases import PreparedCase
from veilseg.schemes.mixup.training import DEFAULT_COEFFICIENT, UNMIXER_INPUTS, MixupTraining
from veilseg.training.examples import Arrays


class SeveralReferences(MixupTraining):
    """Mixtures with the mean of several synthetic references, as the audit's frontier has them."""

    def __init__(self, references: int, *arguments: Any) -> None:
        super().__init__(*arguments)
        law = MixtureLaw(self.classes, DEFAULT_COEFFICIENT, self.template)
        self.law = SweptLaw(law, self.recipe.coefficient_range, (references,))

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:
        arrays = self.law.example(case, rng)
        return {name: arrays[name] for name in ("proxy", "target", *UNMIXER_INPUTS)}
