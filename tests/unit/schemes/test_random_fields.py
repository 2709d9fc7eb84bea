"""Warps that fold nowhere, textures of known variance, and the same bytes everywhere."""

import hashlib
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from veilseg.schemes.random_fields import (
    COARSE_GRAIN_VOXELS,
    diffuse,
    gain_field,
    lattice_step,
    nearest,
    random_warp,
    texture,
)


@pytest.mark.parametrize(
    ("shape", "source", "seeds"),
    [
        ((48, 64, 40), (48, 64, 40), 40),
        ((16, 16, 16), (16, 16, 16), 200),
        ((40, 56, 40), (24, 32, 24), 40),
        ((8, 8, 8), (8, 8, 8), 200),
        ((128, 128, 16), (128, 128, 16), 10),
        ((64, 64), (64, 64), 200),
        ((16, 24), (32, 32), 200),
        ((256, 256), (256, 256), 20),
    ],
)
def test_warp_is_a_diffeomorphism(shape, source, seeds):
    """The Jacobian determinant is positive at every corner of every cell."""
    dims = len(shape)
    least = np.inf
    for seed in range(seeds):
        warp = random_warp(shape, source, np.random.default_rng(seed)).astype(np.float64)
        # One-sided differences along each axis, then all their combinations at cell corners.
        steps = [np.diff(warp, axis=axis + 1) for axis in range(dims)]
        for corner in itertools.product((0, 1), repeat=dims):
            columns = []
            for axis in range(dims):
                cut = tuple(
                    slice(None)
                    if other == axis
                    else slice(corner[other], shape[other] - 1 + corner[other])
                    for other in range(dims)
                )
                columns.append(steps[axis][(slice(None), *cut)])
            least = min(least, determinant(columns).min())
    assert least > 0


def determinant(columns):
    """Of a field of small matrices, along the first column; faster than LAPACK on each."""
    first, *rest = columns
    if not rest:
        return first[0]
    return sum(
        (-1) ** row * first[row] * determinant([np.delete(column, row, axis=0) for column in rest])
        for row in range(len(columns))
    )


def test_warp_moves_by_millimetres_not_by_centimetres():
    identity = np.indices((32, 32, 32))
    moved = [
        np.abs(random_warp((32, 32, 32), (32, 32, 32), np.random.default_rng(s)) - identity).max()
        for s in range(20)
    ]
    assert 1 < np.median(moved) < 20


@pytest.mark.parametrize(
    ("shape", "step"),
    # Three eighths of a step are 3 voxels up to a mean side of 120, and 2.5 % of larger ones.
    [((8, 8), 8), ((40, 56, 48), 8), ((104, 128, 96), 8), ((256, 256), 17), ((480, 480), 32)],
)
def test_lattice_grows_with_the_image(shape, step):
    assert lattice_step(shape) == step


def test_a_larger_image_is_warped_as_much_as_a_small_one():
    """Both lattices have 16 × 16 nodes, so one seed must draw the same warp, twice as large."""
    small, large = (
        random_warp((side, side), (side, side), np.random.default_rng(4))
        - np.indices((side, side), dtype=np.float32)
        for side in (120, 240)
    )
    # The centres, 59.5 and 119.5, are half a voxel off: the affine part moves them apart by that
    # times its distance from the identity, 0.15 + 0.08 per axis.
    np.testing.assert_allclose(large[:, ::2, ::2] / 2, small, atol=0.25 * (0.15 + 0.08) * 2)
    assert small.std() > 1


@pytest.mark.parametrize(("shape", "source"), [((20, 30), (17, 9)), ((40, 50, 60), (30, 20, 7))])
def test_nearest_is_the_nearest_voxel_and_the_border_outside(shape, source):
    # 120 000 places: more than are looked up at a time.
    rng = np.random.default_rng(0)
    values = rng.integers(0, 200, source).astype(np.uint8)
    low, high = -3, np.array(source).reshape(-1, *[1] * len(shape)) + 3
    coordinates = rng.uniform(low, high, (len(shape), *shape)).astype(np.float32)
    expected = ndimage.map_coordinates(values, coordinates, order=0, mode="nearest")
    np.testing.assert_array_equal(values.take(nearest(coordinates, source)), expected)


def correlation(values, lag):
    return np.mean([(v[lag:] * v[:-lag]).mean() for v in values]) / np.square(values).mean()


@pytest.mark.parametrize("shape", [(64, 64, 64), (256, 256), (50, 61, 43)])
def test_texture_has_unit_variance_with_fine_and_coarse_grain(shape):
    seeds = 20
    values = np.stack([texture(shape, np.random.default_rng(seed)) for seed in range(seeds)])
    assert values.dtype == np.float32
    assert values.shape == (seeds, *shape)
    # A mean square of n normal values that correlate by ρ has variance 2·Σρ²/n. On the coarse
    # lattice, which has 4 ** D times fewer nodes, the correlations are (1, 4, 6, 4, 1)/6 along
    # each axis: Σρ² = (70/36) ** D. That half outweighs the fine one; one fifth is added for it.
    dims, voxels = len(shape), np.prod(shape)
    nodes = voxels / COARSE_GRAIN_VOXELS**dims
    error = 1.2 * 0.5 * np.sqrt(2 * (70 / 36) ** dims / nodes / seeds)
    assert np.square(values).mean() == pytest.approx(1, abs=4 * error)
    assert values.mean() == pytest.approx(0, abs=4 * np.sqrt(4**dims / nodes / seeds))
    # Four voxels on, the fine half is forgotten. The coarse half is interpolated between nodes
    # that correlate by 2/3 and 1/6: 0.715 on average over the four places of a voxel in its cell.
    assert correlation(values, 4) == pytest.approx(0.715 / 2, abs=4 * error)
    assert correlation(values, 1) > 0.75
    assert correlation(values, 16) == pytest.approx(0, abs=4 * error)


def test_texture_is_as_strong_at_the_border():
    values = np.stack([texture((24, 24), np.random.default_rng(seed)) for seed in range(400)])
    square = np.square(values).mean(axis=0)
    # Nodes have 1/0.896² of the mean variance of the coarse half, cell centres less; a voxel's
    # mean square over 400 draws is known to 4·√(2/400) = 0.28.
    assert square.min() > 0.5
    assert square.max() < 1.6


@pytest.mark.parametrize("shape", [(104, 128, 96), (16, 16, 16), (256, 256), (8, 8)])
def test_gain_varies_slowly_around_one(shape):
    for seed in range(5):
        gain = gain_field(shape, np.random.default_rng(seed))
        assert gain.shape == shape
        # Of mean 1 and deviation 0.05 at the nodes; a field this smooth stays within 4 of them.
        assert gain.mean() == pytest.approx(1, abs=0.05)
        assert 0.005 < gain.std() < 0.08
        assert 0.8 < gain.min() <= gain.max() < 1.2
        assert max(np.abs(np.diff(gain, axis=axis)).max() for axis in range(len(shape))) < 0.02


@pytest.mark.parametrize("shape", [(7, 9), (6, 5, 8), (1, 4)])
def test_diffusion_is_the_kernel_along_each_axis(shape):
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    expected = image
    for axis in range(len(shape)):
        expected = ndimage.correlate1d(expected, [0.125, 0.75, 0.125], axis, mode="nearest")
    total = image.sum()
    diffuse(image, 0.125)
    np.testing.assert_allclose(image, expected, atol=1e-6)
    assert image.sum() == pytest.approx(total, rel=1e-5)


DRAW = """
import hashlib
import numpy as np
from veilseg.schemes.random_fields import gain_field, nearest, random_warp, texture
rng, shape = np.random.default_rng(3), (50, 60, 40)
warp = random_warp(shape, shape, rng)
fields = warp, nearest(warp, shape), gain_field(shape, rng), texture(shape, rng)
print(hashlib.sha256(b"".join(field.tobytes() for field in fields)).hexdigest())
"""


def test_every_process_draws_the_same_bytes_whatever_its_threads():
    digests = {
        subprocess.run(
            [sys.executable, "-c", DRAW],
            env=os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "2")
    }
    assert len(digests) == 1
    assert len(digests.pop().strip()) == hashlib.sha256().digest_size * 2


@pytest.mark.parametrize("shape", [(16, 16), (24, 32), (16, 16, 16)])
def test_small_images_keep_their_source_in_view(shape):
    """Over a lattice of few nodes the field is nearly a shift: its spread must not blow it up."""
    middle = np.zeros(shape, bool)
    middle[tuple(slice(size // 4, -(size // 4)) for size in shape)] = True
    shares = []
    for seed in range(200):
        warp = random_warp(shape, shape, np.random.default_rng(seed))
        shares.append(middle.take(nearest(warp, shape)).mean() / middle.mean())
    assert min(shares) > 0.1
    assert np.median(shares) > 0.5
