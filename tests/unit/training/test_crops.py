"""Parts of large tiles: the same windows for all maps of a batch, and again when resumed."""

import pytest
import torch

from veilseg.networks.segmenter import DIVISOR
from veilseg.training.crops import CROPS, SMALLEST_CROPPED_VOXELS, crop_shape, cropped

TILE = (104, 128, 96)


@pytest.mark.parametrize(
    ("tile", "expected"),
    [
        (TILE, (48, 64, 48)),
        ((48, 64, 48), (48, 64, 48)),
        ((1024, 1024), (512, 512)),
        ((256, 256, 16), (128, 128, 16)),
        ((8, 320, 320), (8, 160, 160)),  # no axis below what the networks take
    ],
)
def test_half_of_a_large_tile(tile, expected):
    found = crop_shape(tile)
    assert found == expected
    assert all(size % DIVISOR == 0 for size in found)


@pytest.fixture
def batch():
    """Where each voxel lies, as float64 so that every place is exact."""
    places = torch.arange(2 * torch.tensor(TILE).prod(), dtype=torch.float64).reshape(2, 1, *TILE)
    return {"proxy": places, "target": places.expand(2, 3, *TILE), "coefficient": torch.ones(2)}


def test_all_maps_are_cut_alike(batch):
    found = cropped(batch, TILE, step=5, seed=1)
    assert found["proxy"].shape == (2 * CROPS, 1, 48, 64, 48)
    assert found["target"].shape == (2 * CROPS, 3, 48, 64, 48)
    assert found["coefficient"].shape == (2 * CROPS,)
    for channel in range(3):
        assert torch.equal(found["target"][:, channel], found["proxy"][:, 0])
    # Both examples are in the first window, then both in the second.
    first, other = found["proxy"][:2], found["proxy"][2:]
    assert torch.equal(first[1] - first[0], other[1] - other[0])
    assert not torch.equal(first, other)


def test_windows_follow_from_seed_and_step(batch):
    once = cropped(batch, TILE, step=5, seed=1)["proxy"]
    assert torch.equal(cropped(batch, TILE, step=5, seed=1)["proxy"], once)
    assert not torch.equal(cropped(batch, TILE, step=6, seed=1)["proxy"], once)
    assert not torch.equal(cropped(batch, TILE, step=5, seed=2)["proxy"], once)


def test_every_place_is_seen(batch):
    seen = set()
    for step in range(60):
        seen.update(cropped(batch, TILE, step, seed=0)["proxy"][:, 0, 0, 0, 0].tolist())
    # Corners of windows, not always the same few.
    assert len(seen) > 100


def test_small_tiles_stay_whole():
    tile = (16, 16, 16)
    assert torch.Size(tile).numel() < SMALLEST_CROPPED_VOXELS
    batch = {"proxy": torch.rand(2, 1, *tile)}
    assert cropped(batch, tile, step=0, seed=0) is batch
