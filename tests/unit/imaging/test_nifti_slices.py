"""A slice as NIfTI: two axes of three, and results in the file's own."""

import nibabel as nib
import numpy as np
import pytest

from veilseg.errors import InvalidImage
from veilseg.imaging.nifti import read_header, read_image, read_label_map, write_label_map
from veilseg.imaging.volume import LabelMap


@pytest.fixture
def noise():
    return np.random.default_rng(0).random((6, 5, 4), dtype=np.float32)


def refused(path, reason):
    with pytest.raises(InvalidImage, match=reason) as caught:
        read_image([path])
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("third_axis", [False, True])
def test_slice_is_2d_and_labels_come_back_in_its_file(tmp_path, write_nifti, noise, third_axis):
    # A sagittal slice: its two axes are anterior and superior, and it lies off the middle.
    affine = np.array([[0, 0, 3.0, 40], [-1.5, 0, 0, -7], [0, 2.0, 0, 1], [0, 0, 0, 1]])
    flat = noise[..., :1] if third_axis else noise[..., 0]
    path = write_nifti(flat, affine)
    volume = read_image([path])
    np.testing.assert_array_equal(volume.array, noise[None, ..., 0])
    assert volume.geometry.shape == (6, 5)
    assert volume.geometry.unit == "mm"
    assert volume.geometry.spacing_mm == pytest.approx((1.5, 2.0))
    assert volume.geometry.pixel_area == pytest.approx(3.0)
    assert read_header(path)[0] == 1
    labels = np.random.default_rng(0).integers(0, 4, (6, 5)).astype(np.uint8)
    write_label_map(tmp_path / "out.nii.gz", LabelMap(labels, volume.geometry))
    written = nib.load(tmp_path / "out.nii.gz")
    assert written.shape == flat.shape
    np.testing.assert_array_equal(np.asarray(written.dataobj).reshape(6, 5), labels)
    np.testing.assert_allclose(written.affine, affine, atol=1e-6)
    np.testing.assert_array_equal(read_label_map(tmp_path / "out.nii.gz").array, labels)


def test_slice_without_thickness(tmp_path, write_nifti, noise):
    affine = np.diag([2.0, 3, 0, 1])
    volume = read_image([write_nifti(noise[..., 0], affine)])
    labels = LabelMap(np.ones((6, 5), np.uint8), volume.geometry)
    write_label_map(tmp_path / "out.nii", labels)
    written = nib.load(tmp_path / "out.nii").affine
    np.testing.assert_allclose(written[:, [0, 1, 3]], affine[:, [0, 1, 3]])
    assert np.linalg.det(written) > 0
    refused(write_nifti(noise[..., 0], np.diag([2.0, 0, 3, 1])), "affine: singular")
    parallel = np.diag([2.0, 0, 3, 1])
    parallel[0, 1] = 1
    refused(write_nifti(noise[..., 0], parallel), "affine: singular.*on one line")


def test_thickness_of_slices_may_differ(write_nifti, noise):
    thick = np.diag([1.0, 1, 8, 1])
    paths = [
        write_nifti(noise[..., 0], name="a.nii"),
        write_nifti(noise[..., 1], thick, "b.nii"),
    ]
    assert read_image(paths).array.shape == (2, 6, 5)
