"""What is packed comes out again, token by token."""

import numpy as np
import pytest

from veilseg.schemes.encoding.sequence import Layout, Level


@pytest.fixture
def layout() -> Layout:
    return Layout.of((16, 24, 32), (3, 5))


def test_grids_are_a_quarter_and_an_eighth_of_the_tile(layout):
    assert layout.levels == (Level((4, 6, 8), 3), Level((2, 3, 4), 5))
    assert layout.values == 192 * 3 + 24 * 5


def test_what_is_joined_is_split_again(layout):
    rng = np.random.default_rng(0)
    tokens = [rng.random((level.tokens, level.channels), np.float32) for level in layout.levels]
    sequence = layout.joined(tokens)
    assert sequence.shape == (layout.values,)
    for found, given in zip(layout.split(sequence), tokens, strict=True):
        np.testing.assert_array_equal(found, given)


def test_tokens_lie_in_raster_order_with_their_channels_together(layout):
    sequence = np.arange(layout.values, dtype=np.float32)
    fine, coarse = layout.grids(sequence)
    assert fine.shape == (3, 4, 6, 8)
    assert coarse.shape == (5, 2, 3, 4)
    assert fine[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert fine[0, 0, 0, 1] == 3  # the last axis is the fastest
    assert coarse[0, 0, 0, 0] == 192 * 3


def test_stacks_of_sequences_are_split_alike(layout):
    stack = np.random.default_rng(0).random((4, layout.values), np.float32)
    assert [part.shape for part in layout.split(stack)] == [(4, 192, 3), (4, 24, 5)]
    np.testing.assert_array_equal(layout.joined(list(layout.split(stack))), stack)


def test_layout_of_a_manifest(layout):
    fields = [{"grid": list(one.grid), "channels": one.channels} for one in layout.levels]
    assert Layout.from_json(fields) == layout
    with pytest.raises(KeyError):
        Layout.from_json([{"grid": [1, 2, 3]}])
