"""Schemes that can be trained, by name."""

from collections.abc import Sequence
from functools import partial

from veilseg.datasets.cases import PreparedCase
from veilseg.datasets.layout import Dataset
from veilseg.errors import InvalidDataset
from veilseg.networks.encoders import ClientAlone
from veilseg.schemes.encoding.key import ConsortiumKey
from veilseg.schemes.encoding.training import MASK_CHANNELS, EncodingTraining
from veilseg.schemes.mixup.training import MixupTraining
from veilseg.schemes.plain.training import PlainTraining
from veilseg.schemes.population import population_template, represents
from veilseg.training.interface import SchemeTraining
from veilseg.training.plan import Plan
from veilseg.training.recipe import Recipe
from veilseg.training.train import Build


def plain(
    dataset: Dataset,
    plan: Plan,
    cases: Sequence[PreparedCase],
    seed: int,
    recipe: Recipe,  # noqa: ARG001 - one interface
    local: bool = False,
) -> SchemeTraining:
    """Raw images to a segmentation network."""
    dims, channels, classes = len(plan.tile_shape), len(dataset.channels), len(dataset.labels)
    template = population_template(cases, plan.tile_shape, classes, seed)
    network = ClientAlone(dims, channels, MASK_CHANNELS, classes) if local else None
    return PlainTraining(dims, channels, classes, template, network)


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
    linear: bool = False,
) -> SchemeTraining:
    """Privacy-SF: autoencoders at the site, a mapping of encodings at the server."""
    classes, tile = len(dataset.labels), plan.tile_shape
    template = population_template(cases, tile, classes, seed)
    return EncodingTraining(len(tile), len(dataset.channels), classes, tile, template, key, linear)


TRAINABLE: dict[str, Build] = {"mixup": mixup, "plain": plain, "encoding": encoding}
# Controls of a scheme, by name: what says whether the scheme earns its trouble.
CONTROLS: dict[str, tuple[str, Build]] = {
    "linear": ("encoding", partial(encoding, linear=True)),
    "local": ("plain", partial(plain, local=True)),
}
