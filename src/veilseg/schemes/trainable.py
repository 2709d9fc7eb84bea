"""Schemes that can be trained, by name."""

from collections.abc import Sequence
from functools import partial

from veilseg.datasets.cases import PreparedCase
from veilseg.datasets.layout import Dataset
from veilseg.errors import InvalidDataset
from veilseg.networks.encoders import ClientAlone
from veilseg.schemes.deformation.training import DeformationTraining
from veilseg.schemes.encoding.key import ConsortiumKey
from veilseg.schemes.encoding.training import MASK_CHANNELS, EncodingTraining
from veilseg.schemes.mixup.training import MixupTraining
from veilseg.schemes.noise.training import NoiseTraining
from veilseg.schemes.plain.training import PlainTraining
from veilseg.schemes.population import population_template, represents
from veilseg.schemes.privacy_net.training import PrivacyNetTraining
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


def noise(
    dataset: Dataset,
    plan: Plan,
    cases: Sequence[PreparedCase],
    seed: int,
    recipe: Recipe,  # noqa: ARG001 - one interface
    strength: float | None = None,
) -> SchemeTraining:
    """Images under noise to a segmentation network."""
    classes, tile = len(dataset.labels), plan.tile_shape
    template = population_template(cases, tile, classes, seed)
    return NoiseTraining(len(tile), len(dataset.channels), classes, template, **_given(strength))


def adversarial(
    kind: type[DeformationTraining] | type[PrivacyNetTraining],
    dataset: Dataset,
    plan: Plan,
    cases: Sequence[PreparedCase],
    seed: int,
    recipe: Recipe,  # noqa: ARG001 - one interface
    strength: float | None = None,
) -> SchemeTraining:
    """Protection and segmentation network against an identity discriminator.

    Raises
    ------
    InvalidDataset
        If there are no two people to be told apart.
    """
    if len({case.patient for case in cases}) < 2:
        raise InvalidDataset(
            f"{dataset.folder}: there is one training patient: {kind.name} learns to hide people "
            "from each other"
        )
    classes, tile = len(dataset.labels), plan.tile_shape
    template = population_template(cases, tile, classes, seed)
    dims, channels = len(tile), len(dataset.channels)
    return kind(dims, channels, classes, template, cases, **_given(strength))


def _given(strength: float | None) -> dict[str, float]:
    return {} if strength is None else {"strength": strength}


TRAINABLE: dict[str, Build] = {
    "mixup": mixup,
    "plain": plain,
    "encoding": encoding,
    "noise": noise,
    "deformation": partial(adversarial, DeformationTraining),
    "privacy_net": partial(adversarial, PrivacyNetTraining),
}
# Comparators, which protect by a strength: a bundle is trained for one.
WITH_STRENGTH = frozenset({"noise", "deformation", "privacy_net"})
# Controls of a scheme, by name: what says whether the scheme earns its trouble.
CONTROLS: dict[str, tuple[str, Build]] = {
    "linear": ("encoding", partial(encoding, linear=True)),
    "local": ("plain", partial(plain, local=True)),
}
