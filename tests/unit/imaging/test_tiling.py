"""Tiling equals MONAI's, tile for tile."""

from functools import partial

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference

from veilseg.errors import GeometryMismatch, InvalidInput
from veilseg.imaging.tiling import sliding_window, tile_count


def each(process):
    """Of one tile, for all of them."""
    return partial(map, process)


def position_dependent(tile):
    """Two classes that depend on the voxel's place in the tile and on the tile's content."""
    ramp = sum(
        (axis + 1)
        * np.arange(size, dtype=np.float32).reshape(
            [-1 if a == axis else 1 for a in range(tile.ndim - 1)]
        )
        for axis, size in enumerate(tile.shape[1:])
    ) / np.float32(sum(tile.shape))
    return np.stack([np.sin(ramp) * tile[0] + ramp, tile.sum(axis=0) * tile.std() - ramp])


CASES_3D = [
    ((9, 10, 7), (12, 12, 12)),
    ((8, 8, 8), (8, 8, 8)),
    ((20, 17, 11), (8, 8, 8)),
    ((5, 30, 16), (8, 16, 8)),
    ((17, 8, 25), (16, 9, 4)),
]
CASES_2D = [((9, 11), (16, 12)), ((16, 16), (16, 16)), ((33, 47), (16, 16)), ((7, 40), (8, 24))]


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
@pytest.mark.parametrize(("shape", "tile"), CASES_3D + CASES_2D)
def test_result_equals_monai(shape, tile, overlap):
    array = np.random.default_rng(0).random((2, *shape), dtype=np.float32)
    calls = []
    found = sliding_window(
        array, tile, overlap, each(position_dependent), lambda *at: calls.append(at)
    )
    expected = sliding_window_inference(
        torch.from_numpy(array[None]),
        tile,
        1,
        lambda t: torch.from_numpy(position_dependent(t[0].numpy())[None]),
        overlap=overlap,
        mode="gaussian",
    )[0].numpy()
    assert found.shape == (2, *shape)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
    total = tile_count(shape, tile, overlap)
    assert calls == [(number + 1, total) for number in range(total)]


def test_one_tile_costs_one_call_and_no_weighting():
    answer = np.random.default_rng(0).random((3, 8, 8, 8), dtype=np.float32)
    found = sliding_window(
        np.zeros((1, 8, 8, 8), np.float32), (8, 8, 8), 0.5, each(lambda _: answer)
    )
    assert np.shares_memory(found, answer)
    np.testing.assert_array_equal(found, answer)


def test_input_is_left_as_it_was():
    array = np.random.default_rng(0).random((1, 20, 20), dtype=np.float32)
    before = array.copy()

    def clobber(tile):
        tile[:] = 0
        return tile

    for tile in ((8, 8), (20, 20), (24, 24)):
        with pytest.raises(ValueError, match="read-only"):
            sliding_window(array, tile, 0.5, each(clobber))
    np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize(
    ("shape", "tile", "overlap", "count"),
    [
        ((16, 16), (8, 8), 0.0, 4),
        ((17, 8), (8, 8), 0.0, 3),
        ((16, 8), (8, 8), 0.5, 3),
        ((3, 3), (8, 8), 0.5, 1),
    ],
)
def test_tile_count(shape, tile, overlap, count):
    assert tile_count(shape, tile, overlap) == count


def test_image_of_other_dimension_is_refused():
    with pytest.raises(GeometryMismatch, match=r"\(8, 8\) for tiles of shape \(4, 4, 4\)"):
        tile_count((8, 8), (4, 4, 4), 0.5)
    with pytest.raises(GeometryMismatch, match="for tiles of shape"):
        sliding_window(np.zeros((1, 8, 8), np.float32), (4, 4, 4), 0.5, each(lambda tile: tile))


@pytest.mark.parametrize("overlap", [-0.1, 1.0, float("nan")])
def test_overlap_outside_its_range_is_refused(overlap):
    with pytest.raises(InvalidInput, match="overlap"):
        tile_count((8, 8), (4, 4), overlap)


def test_answer_on_another_grid_is_refused():
    with pytest.raises(GeometryMismatch, match="tile 1 of 4: processing gave shape"):
        sliding_window(np.zeros((1, 8, 8), np.float32), (4, 4), 0, each(lambda tile: tile[:, 1:]))


def test_answer_with_another_number_of_classes_is_refused():
    answers = iter([np.zeros((2, 4, 4)), np.zeros((3, 4, 4))])
    with pytest.raises(GeometryMismatch, match="tile 2 of 4: processing gave 3 classes, 2 for"):
        sliding_window(np.zeros((1, 8, 8), np.float32), (4, 4), 0, lambda _: answers)
