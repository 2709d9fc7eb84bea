"""What tokens show: structure where there is one, and where it lies."""

from types import SimpleNamespace

import numpy as np
import pytest

from veilseg.demo.run import named
from veilseg.demo.tokens import components, groups
from veilseg.schemes.encoding.sequence import Layout

TILE, SHAPE = (16, 16, 8), (16, 24, 8)
TILES = 2


@pytest.fixture
def manifest():
    levels = Layout.of(TILE, (2, 3)).to_json()
    settings = {"image_levels": levels, "mask_levels": levels}
    return SimpleNamespace(settings=settings, tile_shape=TILE, tile_overlap=0.25)


def left_and_right() -> np.ndarray:
    """Sequences of two tiles whose tokens tell on which half along the first axis they lie."""
    layout = Layout.of(TILE, (2, 3))
    rng = np.random.default_rng(0)
    side = np.repeat([-1.0, 1.0], 2)[:, None, None] * np.ones((4, 4, 2))
    fine = np.stack([side, np.zeros_like(side)]) + 0.01 * rng.standard_normal((2, 4, 4, 2))
    coarse = rng.standard_normal((3, 2, 2, 1))
    one = layout.sequence([fine.astype(np.float32), coarse.astype(np.float32)])
    return np.stack([one] * TILES)


def test_first_component_draws_what_tokens_differ_by(manifest):
    (found,) = components(left_and_right(), "image", manifest, SHAPE, 1)
    assert found.shape == SHAPE
    assert abs(found[:8].mean() - found[8:].mean()) > 0.8
    assert found.min() >= 0
    assert found.max() <= 1


def test_like_tokens_are_of_one_group_and_named_by_what_most_of_it_is(manifest):
    numbers = groups(left_and_right(), manifest, SHAPE)
    assert numbers.shape == SHAPE
    assert not set(np.unique(numbers[:8])) & set(np.unique(numbers[8:]))
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[8:] = 3
    labels[8, 0, 0] = 0  # not what most of its group is
    found = named(numbers, labels)
    assert (found[:8] == 0).all()
    assert (found[8:] == 3).all()
