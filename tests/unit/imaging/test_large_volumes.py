"""A large image fits into memory, but not many times over: bytes per voxel at the peak."""

import tracemalloc

import numpy as np
import pytest

from veilseg.bundle import IntensityRule
from veilseg.imaging import preprocessing, resampling
from veilseg.imaging.preprocessing import prepare, restore
from veilseg.imaging.volume import Geometry, Volume

SHAPE, SPACING_MM = (160, 160, 120), (0.7, 0.7, 1.0)
VOXELS = int(np.prod(SHAPE))
# At the peak, beyond the image: two arrays as large as it and some masks; one class map on its grid
# and what is strongest so far.
PREPARED, RESTORED = 11, 8


@pytest.fixture
def volume(monkeypatch):
    """In Fortran's order, as files are read, with air around it; cut as finely as a large one."""
    monkeypatch.setattr(resampling, "BLOCK_VOXELS", 2**14)
    monkeypatch.setattr(preprocessing, "SLAB_VOXELS", 2**16)
    image = np.zeros(SHAPE, dtype=np.float32)
    image[20:-20, 20:-20, 15:-15] = np.random.default_rng(0).random((120, 120, 90))
    affine = np.diag([*SPACING_MM, 1.0])
    return Volume(np.asfortranarray(image)[None], Geometry(SHAPE, affine))


def peak(work):
    """Result and the most bytes that were held beyond what was there before."""
    tracemalloc.start()
    try:
        result = work()
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("target_mm", [(1.0, 1.0, 1.0), (1.5, 1.5, 1.5), (0.7, 0.7, 1.0)])
def test_bytes_per_voxel(volume, target_mm):
    rule = IntensityRule("percentile", 0, 100)
    prepared, bytes_ = peak(lambda: prepare(volume, target_mm, rule, (32, 32, 32)))
    assert bytes_ / VOXELS < PREPARED
    probabilities = np.stack([1 - prepared.array[0], prepared.array[0]])
    labels, bytes_ = peak(lambda: restore(probabilities, prepared.restoration))
    assert bytes_ / VOXELS < RESTORED
    assert labels.array.shape == SHAPE
    assert labels.array.any()
