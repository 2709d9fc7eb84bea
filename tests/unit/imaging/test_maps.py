"""Maps of values in [0, 1], in the format of their image."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from veilseg.errors import OutputNotWritable
from veilseg.imaging.formats import write_map
from veilseg.imaging.volume import Geometry

AFFINE = np.array([[0, -2.0, 0, 5], [1, 0, 0, -7], [0, 0, 3, 3], [0, 0, 0, 1]])


def values(shape: tuple[int, ...]) -> np.ndarray:
    return np.linspace(0, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize(
    ("geometry", "written"),
    [
        (Geometry((4, 3, 2), AFFINE), (4, 3, 2)),
        (Geometry((4, 3), AFFINE), (4, 3)),
        (Geometry((4, 3), AFFINE, third_axis=True), (4, 3, 1)),
    ],
)
def test_nifti_keeps_values_and_place(tmp_path: Path, geometry: Geometry, written: tuple[int, ...]):
    array = values(geometry.shape)
    write_map(tmp_path / "map.nii.gz", array, geometry)
    read = nib.load(tmp_path / "map.nii.gz")
    assert (read.shape, read.get_data_dtype()) == (written, np.float32)
    np.testing.assert_array_equal(read.affine, AFFINE)
    np.testing.assert_array_equal(np.asarray(read.dataobj).reshape(geometry.shape), array)


def test_png_has_255_steps(tmp_path: Path):
    array = values((4, 3))
    write_map(tmp_path / "map.png", array, Geometry((4, 3), np.eye(4), "pixel"))
    with Image.open(tmp_path / "map.png") as image:
        assert image.mode == "L"
        read = np.asarray(image)
    # X counts columns: a PNG's rows are the second axis.
    np.testing.assert_allclose(read.T / 255, array, atol=0.5 / 255 + 1e-6)
    assert (read.min(), read.max()) == (0, 255)


def test_png_holds_no_volume(tmp_path: Path):
    with pytest.raises(OutputNotWritable, match=r"map\.png: cannot be written: a PNG holds no 3D"):
        write_map(tmp_path / "map.png", values((4, 3, 2)), Geometry((4, 3, 2), AFFINE))
    assert not list(tmp_path.iterdir())
