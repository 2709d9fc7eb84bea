"""What attacks on encodings rest on: what no key changes, and a probe that finds what is linear."""

from dataclasses import dataclass

import numpy as np
import pytest

from veilseg.audit.attacks import inversion, key_recovery
from veilseg.audit.attacks.layout import _grams, _shown, analysis, on_grid
from veilseg.audit.attacks.matching import invariants
from veilseg.audit.grids import on_blocks
from veilseg.datasets.cases import PreparedCase
from veilseg.schemes.encoding.key import ConsortiumKey
from veilseg.schemes.encoding.sequence import Layout, Level

LAYOUT = Layout.of((16, 24, 16), (4, 6))


@dataclass
class Seen:
    proxy: np.ndarray
    image: np.ndarray


@pytest.fixture
def sequence():
    rng = np.random.default_rng(0)
    return rng.standard_normal(LAYOUT.values).astype(np.float32)


def test_invariants_are_the_same_under_every_key(sequence):
    known = invariants(sequence, LAYOUT)
    assert known.shape == (6, 4, 6, 4)
    for _ in range(3):
        keyed = ConsortiumKey.new().transform(LAYOUT, "image").apply(sequence)
        assert not np.allclose(keyed, sequence, atol=0.1)
        np.testing.assert_allclose(invariants(keyed, LAYOUT), known, atol=1e-3)


def test_invariants_tell_encodings_apart(sequence):
    other = sequence + np.random.default_rng(1).standard_normal(LAYOUT.values).astype(np.float32)
    assert np.abs(invariants(other, LAYOUT) - invariants(sequence, LAYOUT)).max() > 0.1


@pytest.mark.parametrize(("linear", "low", "high"), [(True, 0.99, 1), (False, -1, 0.1)])
def test_probe_finds_what_is_linear_in_the_image_and_nothing_else(linear, low, high):
    rng = np.random.default_rng(2)
    seen = []
    for _ in range(12):
        coarse = rng.random(LAYOUT.levels[0].grid)
        image = np.kron(coarse, np.ones((4, 4, 4)))[None].astype(np.float32)
        tokens = rng.standard_normal((LAYOUT.levels[0].tokens, 4))
        if linear:
            # As the probe looks at the image: looked up on the grid, not averaged.
            tokens[:, 2] = 3 * on_grid(image, LAYOUT).ravel() - 1
        fine = tokens.astype(np.float32).ravel()
        rest = rng.standard_normal(LAYOUT.values - fine.size).astype(np.float32)
        seen.append(Seen(np.concatenate([fine, rest]), image))
    found = analysis(seen[:8], seen[8:], LAYOUT)
    assert low <= found["linear_probe_r2"] <= high
    assert (found["largest_correlation"] > 0.99) == linear


def test_mean_tokens_of_the_places_find_the_key_closely():
    """Nobody's keyed encoding is known, only that images lie alike in their tiles."""
    rng = np.random.default_rng(4)
    layout = Layout((Level((6, 6), 2), Level((3, 3), 8)))
    anatomy = rng.standard_normal(layout.values)
    people = (anatomy + 0.1 * rng.standard_normal((60, layout.values))).astype(np.float32)
    key = ConsortiumKey(b"q" * 32).transform(layout, "image")
    keyed = [key.apply(one) for one in people[30:]]
    found = key_recovery.Fitted.by_means(layout, list(people[:30]), keyed)
    # Means of thirty people are off by 0.1 / sqrt(30) a value.
    assert np.abs(found.unkeyed(keyed[0]) - people[30]).max() < 0.2


def test_an_encoding_that_keeps_every_voxel_can_be_undone_by_hand():
    """The control of A10: what must be invertible has each voxel at its place, once a level."""
    image = np.random.default_rng(5).random((2, 16, 24)).astype(np.float32)
    law = inversion.KeepingLaw(2)
    case = PreparedCase("case", "person", image, np.zeros((16, 24), np.uint8))
    found = law.example(case, np.random.default_rng(0))["proxy"]
    layout = Layout.of((16, 24), [2 * 4**2, 2 * 8**2])
    assert found.shape == (layout.values,)
    for stride, grid in zip((4, 8), layout.grids(found), strict=True):
        split = grid.reshape(2, stride, stride, 16 // stride, 24 // stride)
        assert np.array_equal(split.transpose(0, 3, 1, 4, 2).reshape(image.shape), image)


def test_tokens_are_seen_where_their_voxels_are():
    """A step in the middle of the tile is one on the grid of tokens, and back."""
    image = np.zeros((1, 16, 24, 16), np.float32)
    image[:, 8:] = 1
    coarse = on_grid(image, LAYOUT)
    assert coarse.shape == (4, 6, 4)
    assert np.array_equal(coarse, np.repeat([0.0, 0, 1, 1], 24).reshape(4, 6, 4))
    assert np.array_equal(on_blocks(coarse, image.shape[1:]), image[0])
    shown, turned = _shown(coarse, 0.5 + 0.1 * image)
    # Half way between the tokens on either side of the step.
    assert np.allclose(shown[0, 7] + shown[0, 8], shown[0, 0] + shown[0, -1])
    assert np.allclose(shown + turned, 2 * shown.mean(), atol=1e-6)


def test_gram_matrices_are_the_same_under_every_key(sequence):
    other = np.random.default_rng(1).standard_normal(LAYOUT.values).astype(np.float32)
    keyed = ConsortiumKey.new().transform(LAYOUT, "image").apply(sequence)
    known, same, apart = _grams([sequence, keyed, other], LAYOUT)
    np.testing.assert_allclose(same, known, atol=1e-3)
    assert float(known @ known) == pytest.approx(1, abs=1e-3)
    assert float(known @ apart) < 0.5
