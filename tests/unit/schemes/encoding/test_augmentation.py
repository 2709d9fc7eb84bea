"""What moves tokens moves image and mask alike; the same number gives the same example."""

import numpy as np
import pytest

from veilseg.contribution import ProtectedPair
from veilseg.schemes.encoding.augmentation import SequenceAugmentation
from veilseg.schemes.encoding.pairs import EncodedExamples
from veilseg.schemes.encoding.sequence import Layout

IMAGE, MASK = Layout.of((32, 32, 16), (2, 3)), Layout.of((32, 32, 16), (4, 5))
NOTHING = SequenceAugmentation(shift=0, jitter=0)


@pytest.fixture
def pairs() -> list[ProtectedPair]:
    rng = np.random.default_rng(0)
    return [
        ProtectedPair(
            *(rng.standard_normal(layout.values).astype(np.float16) for layout in (IMAGE, MASK))
        )
        for _ in range(4)
    ]


@pytest.fixture
def grids(pairs):
    return [
        [layout.grids(sequence.astype(np.float32)) for sequence in sequences]
        for layout, sequences in (
            (IMAGE, [pair.proxy for pair in pairs[:2]]),
            (MASK, [pair.answer for pair in pairs[:2]]),
        )
    ]


def changed(grids, **how):
    augmentation = SequenceAugmentation(**({"shift": 0, "jitter": 0} | how))
    return augmentation(*grids, np.random.default_rng(3))


def test_without_augmentation_nothing_changes(grids):
    for found, given in zip(changed(grids), grids, strict=True):
        for one, other in zip(found, given[0], strict=True):
            np.testing.assert_array_equal(one, other)


def test_shift_moves_both_sequences_by_as_much_of_the_tile(grids):
    image, mask = changed(grids, shift=1)
    for found, given in ((image, grids[0][0]), (mask, grids[1][0])):
        by = [
            next(
                shift
                for shift in (-1, 0, 1)
                if np.allclose(
                    np.roll(given[1], shift, axis).mean(axis=rest(axis)),
                    found[1].mean(axis=rest(axis)),
                )
            )
            for axis in (1, 2, 3)
        ]
        np.testing.assert_array_equal(found[1], np.roll(given[1], by, (1, 2, 3)))
        np.testing.assert_array_equal(found[0], np.roll(given[0], np.multiply(by, 2), (1, 2, 3)))


def rest(axis):
    return tuple({0, 1, 2, 3} - {axis})


def test_mixing_weighs_both_sequences_alike(grids):
    image, mask = changed(grids, mixed=1.0)
    first, second = (one[0] for one in grids[0])
    weight = float(((image[0] - second) / (first - second)).mean())
    assert 0.5 <= weight <= 1
    for found, given in ((image, grids[0]), (mask, grids[1])):
        for level, one in enumerate(found):
            expected = weight * given[0][level] + (1 - weight) * given[1][level]
            np.testing.assert_allclose(one, expected, atol=1e-4)


def test_cut_takes_the_same_block_of_both_sequences(grids):
    image, mask = changed(grids, cut=1.0)
    blocks = []
    for found, given in ((image, grids[0]), (mask, grids[1])):
        for level, one in enumerate(found):
            own, other = (of[level] for of in given)
            kept = (one == own).all(axis=0)
            assert ((one == other).all(axis=0) | kept).all()
            blocks.append(kept)
    fine, coarse = blocks[:2]
    np.testing.assert_array_equal(fine, blocks[2])
    np.testing.assert_array_equal(coarse, blocks[3])
    np.testing.assert_array_equal(fine[::2, ::2, ::2], coarse)
    assert 1 / 8 <= coarse.mean() <= 1


@pytest.mark.parametrize("how", [{"masked": 0.5}, {"dropped": 0.5}, {"jitter": 0.1}])
def test_disturbance_is_of_the_image_alone(grids, how):
    image, mask = changed(grids, **how)
    assert any(not np.array_equal(a, b) for a, b in zip(image, grids[0][0], strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(mask, grids[1][0], strict=True))


def test_examples_are_a_function_of_seed_and_number(pairs):
    def example(number, seed=1):
        augmentation = SequenceAugmentation()
        return EncodedExamples(pairs, IMAGE, MASK, 100, seed, augmentation)[number]

    assert len(EncodedExamples(pairs, IMAGE, MASK, 100, 1, NOTHING)) == 100
    for name in ("image", "mask"):
        assert example(7)[name].equal(example(7)[name])
        assert not example(7)[name].equal(example(7, seed=2)[name])


def test_every_pair_is_used_equally_often(pairs):
    examples = EncodedExamples(pairs, IMAGE, MASK, 8, 0, NOTHING)
    used = [examples[number]["image"].numpy() for number in range(8)]
    for pair in pairs:
        assert sum(np.array_equal(one, pair.proxy) for one in used) == 2
