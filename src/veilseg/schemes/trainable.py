"""Schemes that can be trained, by name."""

from collections.abc import Sequence

from veilseg.datasets.cases import PreparedCase
from veilseg.datasets.layout import Dataset
from veilseg.errors import InvalidDataset
from veilseg.schemes.encoding.key import ConsortiumKey
from veilseg.schemes.encoding.training import EncodingTraining
from veilseg.schemes.mixup.training import MixupTraining
from veilseg.schemes.plain.training import PlainTraining
from veilseg.schemes.population import population_template, represents
from veilseg.training.interface import SchemeTraining
from veilseg.training.plan import Plan
from veilseg.training.recipe import Recipe


def plain(
    dataset: Dataset,
    plan: Plan,
    cases: Sequence[PreparedCase],
    seed: int,
    recipe: Recipe,  # noqa: ARG001 - one interface
) -> SchemeTraining:
    """Raw images to a segmentation network."""
    classes = len(dataset.labels)
    template = population_template(cases, plan.tile_shape, classes, seed)
    return PlainTraining(len(plan.tile_shape), len(dataset.channels), classes, template)


def mixup(
    dataset: Dataset, plan: Plan, cases: Sequence[PreparedCase], seed: int, recipe: Recipe
) -> SchemeTraining:
    """Mixup-Privacy: segmentation and unmixing network end to end.

    Raises
    ------
    InvalidDataset
        If there is neither a template to draw references from nor a second patient.
    """
    classes = len(dataset.labels)
    template = population_template(cases, plan.tile_shape, classes, seed)
    if not represents(template, cases) and len({case.patient for case in cases}) < 2:
        raise InvalidDataset(
            f"{dataset.folder}: labels lie at no common place, and there is one training patient: "
            "no references to mix with"
        )
    dims, channels = len(plan.tile_shape), len(dataset.channels)
    return MixupTraining(dims, channels, classes, template, cases, recipe)


def encoding(
    dataset: Dataset,
    plan: Plan,
    cases: Sequence[PreparedCase],
    seed: int,
    recipe: Recipe,  # noqa: ARG001 - one interface
    key: ConsortiumKey | None = None,
) -> SchemeTraining:
    """Privacy-SF: autoencoders at the site, a mapping of encodings at the server."""
    classes, tile = len(dataset.labels), plan.tile_shape
    template = population_template(cases, tile, classes, seed)
    return EncodingTraining(len(tile), len(dataset.channels), classes, tile, template, key)


TRAINABLE = {"mixup": mixup, "plain": plain, "encoding": encoding}
