"""Schemes that can be trained, by name."""

from collections.abc import Sequence

from veilseg.datasets.cases import PreparedCase
from veilseg.datasets.layout import Dataset
from veilseg.schemes.mixup.training import MixupTraining
from veilseg.schemes.plain.training import PlainTraining
from veilseg.schemes.population import population_template
from veilseg.training.interface import SchemeTraining
from veilseg.training.plan import Plan


def plain(dataset: Dataset, plan: Plan, cases: Sequence[PreparedCase], seed: int) -> SchemeTraining:
    """Raw images to a segmentation network."""
    classes = len(dataset.labels)
    template = population_template(cases, plan.tile_shape, classes, seed)
    return PlainTraining(len(plan.tile_shape), len(dataset.channels), classes, template)


def mixup(dataset: Dataset, plan: Plan, cases: Sequence[PreparedCase], seed: int) -> SchemeTraining:
    """Mixup-Privacy: segmentation and unmixing network end to end."""
    classes = len(dataset.labels)
    template = population_template(cases, plan.tile_shape, classes, seed)
    return MixupTraining(len(plan.tile_shape), len(dataset.channels), classes, template, cases)


TRAINABLE = {"mixup": mixup, "plain": plain}
