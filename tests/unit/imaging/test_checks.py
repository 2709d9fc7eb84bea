"""What is too large is refused before it is read, by a limit that follows the computer."""

import os
import tracemalloc

import nibabel as nib
import numpy as np
import pytest

from veilseg.bundle import IntensityRule
from veilseg.errors import GeometryMismatch, InvalidImage
from veilseg.imaging import checks
from veilseg.imaging.checks import BYTES_PER_VOXEL, MOST_VOXELS, require_fitting, require_same_grid
from veilseg.imaging.nifti import read_image
from veilseg.imaging.preprocessing import prepare
from veilseg.imaging.volume import Geometry

MEMORY = 2**20 * BYTES_PER_VOXEL


@pytest.fixture
def small_computer(monkeypatch):
    values = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": MEMORY // 4096}
    monkeypatch.setattr(os, "sysconf", values.__getitem__, raising=False)


def test_limit_is_what_memory_holds(small_computer):
    require_fitting((1024, 1024), "x")
    with pytest.raises(InvalidImage, match=r"^x: announces 1,049,600 voxels, more than the 1,048,"):
        require_fitting((1024, 1025), "x")


def test_limit_where_memory_is_not_known(monkeypatch):
    monkeypatch.delattr(os, "sysconf", raising=False)
    require_fitting((MOST_VOXELS,), "x")
    with pytest.raises(InvalidImage, match="2,147,483,648 that fit"):
        require_fitting((MOST_VOXELS + 1,), "x")


@pytest.mark.parametrize("size", [0, -1])
def test_no_voxels(size):
    with pytest.raises(InvalidImage, match="x: has no voxels"):
        require_fitting((4, size, 4), "x")


def test_reading_and_preparing_stays_within_the_limit(tmp_path):
    """``BYTES_PER_VOXEL`` is measured, not guessed."""
    image = np.random.default_rng(0).random((96, 96, 96)).astype(np.float32)
    nib.save(nib.Nifti1Image(image, np.eye(4)), tmp_path / "x.nii.gz")
    for spacing in ((1.0, 1.0, 1.0), (1.3, 1.3, 1.3)):
        tracemalloc.start()
        volume = read_image([tmp_path / "x.nii.gz"])
        prepare(volume, spacing, IntensityRule("percentile", 0.5, 99.5), (8, 8, 8))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < BYTES_PER_VOXEL * image.size


def test_a_pictures_grid_is_its_size():
    first, second = (Geometry(shape, np.eye(4), "pixel") for shape in ((4, 5), (4, 6)))
    require_same_grid(first, first, "a", "b")
    with pytest.raises(GeometryMismatch, match=r"b: shape \(4, 6\) differs from \(4, 5\) of a"):
        require_same_grid(first, second, "a", "b")


def test_no_file_at_all():
    with pytest.raises(InvalidImage, match="no image file"):
        checks.stacked([], lambda path: (np.zeros((1, 2, 2)), Geometry((2, 2), np.eye(4))))
