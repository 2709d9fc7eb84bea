"""A small population template and cases that fit it."""

from collections.abc import Callable

import numpy as np
import pytest

from veilseg.datasets.cases import PreparedCase
from veilseg.schemes.references import Template

# Of a hippocampus tile. The law draws its fields on a lattice of 8 voxels.
SHAPE = (40, 56, 40)


@pytest.fixture(scope="session")
def template() -> Template:
    """Nested ellipsoids: nothing, two unlabelled tissues, labels 1 and 2."""
    middle = (np.array(SHAPE).reshape(3, 1, 1, 1) - 1) / 2
    distance = np.sqrt((((np.indices(SHAPE) - middle) / (middle + 0.5)) ** 2).sum(axis=0))
    tissues = np.select(
        [distance < 0.4, distance < 0.6, distance < 0.8, distance < 0.95], [4, 3, 2, 1]
    )
    return Template(
        tissues.astype(np.uint8),
        np.array([0, 0, 0, 1, 2], np.uint8),
        np.array([[0], [0.3], [0.5], [0.7], [0.9]], np.float32),
        np.array([[0], [0.05], [0.05], [0.05], [0.05]], np.float32),
    )


@pytest.fixture(scope="session")
def make_case() -> Callable[..., PreparedCase]:
    """An ellipsoid of noise around a brighter, labelled core."""

    def build(seed: int, shape: tuple[int, ...] = SHAPE, channels: int = 1) -> PreparedCase:
        rng = np.random.default_rng(seed)
        middle = (np.array(shape).reshape(-1, *[1] * len(shape)) - 1) / 2
        distance = np.sqrt((((np.indices(shape) - middle) / (middle + 0.5)) ** 2).sum(axis=0))
        labels = (distance < rng.uniform(0.4, 0.7)).astype(np.uint8)
        image = 0.3 + 0.4 * labels + rng.normal(0, 0.05, (channels, *shape))
        image = np.where(distance < 0.9, np.clip(image, 0.01, 1), 0).astype(np.float32)
        return PreparedCase(f"case{seed}", f"patient{seed}", image, labels)

    return build
