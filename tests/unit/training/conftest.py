"""Small schemes to fit."""

from collections.abc import Callable

import pytest
import torch
from lightning_fabric import Fabric

from veilseg.datasets.cases import PreparedCase
from veilseg.schemes.mixup.training import MixupTraining
from veilseg.schemes.plain.training import PlainTraining
from veilseg.schemes.population import population_template
from veilseg.training.processes import launch
from veilseg.training.recipe import Recipe


@pytest.fixture
def make_mixup(cases: list[PreparedCase]) -> Callable[[], MixupTraining]:
    """A freshly initialised scheme, the same each time."""

    def build() -> MixupTraining:
        torch.manual_seed(0)
        return MixupTraining(
            3, 1, 2, population_template(cases, (16, 16, 16), 2, seed=0), cases, Recipe()
        )

    return build


@pytest.fixture(scope="session")
def make_plain(cases: list[PreparedCase]) -> Callable[..., PlainTraining]:
    """A scheme on raw images with the given number of classes."""
    template = population_template(cases, (16, 16, 16), 2, seed=0)
    return lambda classes=2: PlainTraining(3, 1, classes, template)


@pytest.fixture(scope="session")
def fabric() -> Fabric:
    """One process."""
    return launch()
