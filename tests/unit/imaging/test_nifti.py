"""Every bad file is refused with its name and the reason; results are written whole."""

import gzip
import struct

import nibabel as nib
import numpy as np
import pytest

from veilseg.errors import GeometryMismatch, InvalidImage, OutputNotWritable
from veilseg.imaging.nifti import (
    read_image,
    read_label_map,
    write_array,
    write_label_map,
)
from veilseg.imaging.volume import Geometry, LabelMap


@pytest.fixture
def noise():
    return np.random.default_rng(0).random((6, 5, 4), dtype=np.float32)


def refused(paths, reason, error=InvalidImage):
    with pytest.raises(error, match=reason) as caught:
        read_image(paths)
    message = str(caught.value)
    assert str(paths[-1]) in message
    assert "\n" not in message


def test_reads_intensities_and_place(write_nifti, noise):
    affine = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -7], [0, 0, 3.0, 1], [0, 0, 0, 1]])
    volume = read_image([write_nifti(noise, affine)])
    np.testing.assert_array_equal(volume.array[0], noise)
    np.testing.assert_allclose(volume.geometry.affine, affine, atol=1e-6)
    assert volume.geometry.spacing_mm == pytest.approx((1.5, 2.0, 3.0))
    assert volume.geometry.voxel_volume_ml == pytest.approx(0.009)


def test_missing_file(tmp_path):
    refused([tmp_path / "absent.nii.gz"], "no such file")


def test_folder_is_no_file(tmp_path):
    refused([tmp_path], "not a file")


@pytest.mark.parametrize("name", ["note.nii", "note.nii.gz", "note.txt", "note.png"])
def test_text_file_is_no_image(tmp_path, name):
    path = tmp_path / name
    path.write_text("Dear colleague, please find attached the image. " * 20)
    refused([path], "not a NIfTI image|damaged or truncated")


@pytest.mark.parametrize("name", ["empty.nii", "empty.nii.gz"])
def test_empty_file_is_no_image(tmp_path, name):
    path = tmp_path / name
    path.touch()
    refused([path], "not a NIfTI image|damaged or truncated")


def test_gzip_of_nothing_useful(tmp_path):
    path = tmp_path / "x.nii.gz"
    path.write_bytes(gzip.compress(b"\0" * 400))
    refused([path], "not a NIfTI image|damaged or truncated")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.99])
def test_truncated_gzip(write_nifti, share):
    path = write_nifti(np.random.default_rng(0).random((20, 20, 20)))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refused([path], "not a NIfTI image|damaged or truncated")


def test_truncated_uncompressed(write_nifti, noise):
    path = write_nifti(noise, name="x.nii")
    path.write_bytes(path.read_bytes()[:-10])
    refused([path], "damaged or truncated")


def test_damaged_gzip(write_nifti):
    path = write_nifti(np.random.default_rng(0).random((20, 20, 20)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))
    refused([path], "not a NIfTI image|damaged or truncated")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_undefined_intensities(write_nifti, noise, value):
    noise[1, 2, 3] = value
    refused([write_nifti(noise)], "NaN or infinite")


def test_intensities_beyond_float32(write_nifti, noise):
    refused([write_nifti(noise.astype(np.float64) * 1e300)], "NaN or infinite")


def test_constant_image(write_nifti):
    refused([write_nifti(np.full((4, 4, 4), 7, np.int16))], "constant: every voxel is 7")


def test_series_is_no_3d_image(write_nifti, noise):
    refused([write_nifti(np.stack([noise, noise], axis=-1))], "is 4D of shape")


def test_what_is_named_plain_but_compressed_is_read(write_nifti, noise):
    path = write_nifti(noise)
    misnamed = path.rename(path.with_name("y.nii"))
    np.testing.assert_array_equal(read_image([misnamed]).array[0], noise)


def test_nifti_2_is_read(tmp_path, noise):
    nib.save(nib.Nifti2Image(noise, np.eye(4)), tmp_path / "x.nii.gz")
    np.testing.assert_array_equal(read_image([tmp_path / "x.nii.gz"]).array[0], noise)


def test_scaled_integers_are_read_as_their_values(tmp_path, noise):
    image = nib.Nifti1Image(noise, np.eye(4))
    image.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "x.nii.gz")
    np.testing.assert_allclose(read_image([tmp_path / "x.nii.gz"]).array[0], noise, atol=1e-4)


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
@pytest.mark.parametrize("shape", [(32767, 32767, 32767), (30000, 30000, 300)])
def test_more_voxels_than_memory_are_refused_by_the_header(write_nifti, noise, name, shape):
    path = write_nifti(noise, name="x.nii")
    forged = bytearray(path.read_bytes())
    forged[42:48] = struct.pack("<3h", *shape)
    path = path.with_name(name)
    path.write_bytes(gzip.compress(forged) if name.endswith("gz") else forged)
    refused([path], r"announces [\d,]+ voxels, more than the [\d,]+ that fit into memory")


def test_more_voxels_than_there_are(write_nifti, noise):
    path = write_nifti(noise, name="x.nii")
    forged = bytearray(path.read_bytes())
    forged[42:44] = struct.pack("<h", 60)
    path.write_bytes(forged)
    refused([path], "damaged or truncated")


@pytest.mark.parametrize("size", [0, -3])
def test_header_without_voxels(write_nifti, noise, size):
    path = write_nifti(noise, name="x.nii")
    forged = bytearray(path.read_bytes())
    forged[42:44] = struct.pack("<h", size)
    path.write_bytes(forged)
    refused([path], "has no voxels")


@pytest.mark.parametrize("trailing", [(1,), (1, 1)])
def test_trailing_axes_of_length_one_are_dropped(write_nifti, noise, trailing):
    volume = read_image([write_nifti(noise.reshape(*noise.shape, *trailing))])
    np.testing.assert_array_equal(volume.array[0], noise)


def test_complex_voxels(write_nifti, noise):
    refused([write_nifti(noise.astype(np.complex64))], "type complex64")


def test_colour_voxels(write_nifti):
    colours = np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    refused([write_nifti(colours)], "are not intensities")


def test_axis_without_length(write_nifti, noise):
    refused([write_nifti(noise, np.diag([1.0, 0, 1, 1]))], "affine: singular.*no length")


def test_coplanar_axes(write_nifti, noise):
    affine = np.eye(4)
    affine[:3, 2] = [1, 1, 0]
    refused([write_nifti(noise, affine)], "affine: singular.*one plane")


def test_affine_with_nan(write_nifti, noise):
    affine = np.eye(4)
    affine[0, 3] = np.nan
    refused([write_nifti(noise, affine)], "affine: holds NaN")


def test_channels_are_stacked_in_order(write_nifti, noise):
    paths = [write_nifti(noise, name="a.nii.gz"), write_nifti(noise * 2, name="b.nii.gz")]
    np.testing.assert_array_equal(read_image(paths).array, np.stack([noise, noise * 2]))


def test_channels_of_different_shape(write_nifti, noise):
    paths = [write_nifti(noise, name="a.nii.gz"), write_nifti(noise[1:], name="b.nii.gz")]
    refused(paths, "shape", GeometryMismatch)


def test_channels_in_different_places(write_nifti, noise):
    moved = np.eye(4)
    moved[0, 3] = 0.1
    paths = [write_nifti(noise, name="a.nii.gz"), write_nifti(noise, moved, "b.nii.gz")]
    refused(paths, "off the grid of", GeometryMismatch)


def test_channels_turned_by_too_much(write_nifti, noise):
    # Small in each entry, but over the width of the image more than the tolerance.
    wide = np.random.default_rng(0).random((400, 2, 2))
    turned = np.eye(4)
    turned[1, 0] = 1e-3
    paths = [write_nifti(wide, name="a.nii.gz"), write_nifti(wide, turned, "b.nii.gz")]
    refused(paths, "off the grid of", GeometryMismatch)


def test_headers_rounded_differently_are_one_grid(write_nifti, noise):
    rounded = np.eye(4)
    rounded[0, 3] = 1e-3
    paths = [write_nifti(noise, name="a.nii.gz"), write_nifti(noise, rounded, "b.nii.gz")]
    assert len(read_image(paths).array) == 2


def test_no_file_at_all():
    with pytest.raises(InvalidImage, match="no image file"):
        read_image([])


@pytest.mark.parametrize("value", [0.5, -1.0, 256.0, np.nan, np.inf])
def test_labels_must_be_integers_of_one_byte(write_nifti, value):
    labels = np.zeros((4, 4, 4), np.float32)
    labels[1, 1, 1] = value
    path = write_nifti(labels)
    with pytest.raises(InvalidImage, match="labels must be integers in 0…255") as caught:
        read_label_map(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_labels_of_any_number_type_are_read(write_nifti, dtype):
    labels = np.random.default_rng(0).integers(0, 256, (4, 3, 2)).astype(dtype)
    found = read_label_map(write_nifti(labels))
    assert found.array.dtype == np.uint8
    np.testing.assert_array_equal(found.array, labels)


def test_an_empty_label_map_is_no_error(write_nifti):
    assert not read_label_map(write_nifti(np.zeros((4, 4, 4), np.uint8))).array.any()


@pytest.fixture
def labels():
    affine = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -7], [0, 0, 3.0, 1], [0, 0, 0, 1]])
    array = np.random.default_rng(0).integers(0, 4, (6, 5, 4)).astype(np.uint8)
    return LabelMap(array, Geometry(array.shape, affine))


@pytest.mark.parametrize("name", ["out.nii.gz", "out.nii", "case.1 at 1.5mm.nii.gz"])
def test_labels_come_back_as_written(tmp_path, labels, name):
    path = tmp_path / name
    write_label_map(path, labels)
    found = read_label_map(path)
    np.testing.assert_array_equal(found.array, labels.array)
    np.testing.assert_allclose(found.geometry.affine, labels.geometry.affine, atol=1e-6)
    assert nib.load(path).get_data_dtype() == np.uint8
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("shape", [(2, 4, 3, 2), (3, 4, 5)])
def test_written_array_has_no_place(tmp_path, shape):
    array = np.random.default_rng(0).random(shape, dtype=np.float32)
    write_array(tmp_path / "proxy.nii.gz", array)
    image = nib.load(tmp_path / "proxy.nii.gz")
    np.testing.assert_array_equal(np.moveaxis(np.asarray(image.dataobj), -1, 0), array)
    np.testing.assert_array_equal(image.affine, np.eye(4))
    assert image.header["descrip"] == b""


def test_missing_output_folder(tmp_path, labels):
    path = tmp_path / "absent" / "out.nii.gz"
    with pytest.raises(OutputNotWritable, match="cannot be written") as caught:
        write_label_map(path, labels)
    assert str(path) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_output_that_is_a_folder(tmp_path, labels):
    path = tmp_path / "out.nii.gz"
    path.mkdir()
    with pytest.raises(OutputNotWritable, match="cannot be written") as caught:
        write_label_map(path, labels)
    assert str(path) in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["out.nii.gz"]


def test_output_inside_a_file(tmp_path, labels):
    (tmp_path / "file").touch()
    with pytest.raises(OutputNotWritable, match="cannot be written"):
        write_label_map(tmp_path / "file" / "out.nii.gz", labels)


@pytest.mark.parametrize("name", ["out.txt", "out"])
def test_output_that_is_no_nifti_name(tmp_path, labels, name):
    with pytest.raises(OutputNotWritable, match=r"\.nii or \.nii\.gz") as caught:
        write_label_map(tmp_path / name, labels)
    assert str(tmp_path / name) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_equal_labels_are_equal_files(tmp_path, labels):
    for name in ("one.nii.gz", "two.nii.gz"):
        write_label_map(tmp_path / name, labels)
    assert (tmp_path / "one.nii.gz").read_bytes() == (tmp_path / "two.nii.gz").read_bytes()


def test_old_result_survives_a_full_disk(tmp_path, labels, disk_full):
    path = tmp_path / "out.nii.gz"
    write_label_map(path, labels)
    before = path.read_bytes()
    disk_full()
    with pytest.raises(OutputNotWritable, match="No space left on device"):
        write_label_map(path, labels)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["out.nii.gz"]


def unsized(path, array):
    """As a converter writes that knows nothing of space."""
    nib.save(nib.Nifti1Image(array, None), path)
    return path


def test_plane_image_without_spacing_is_in_pixels_and_so_is_what_is_written(tmp_path, noise):
    for array in (noise[:, :, 0], noise[:, :, :1]):
        volume = read_image([unsized(tmp_path / "image.nii.gz", array)])
        assert (volume.geometry.unit, volume.geometry.spacing_mm) == ("pixel", (1, 1))
        labels = LabelMap(np.ones(volume.geometry.shape, np.uint8), volume.geometry)
        write_label_map(tmp_path / "labels.nii.gz", labels)
        again = read_label_map(tmp_path / "labels.nii.gz")
        assert (again.geometry.unit, again.geometry.sized) == ("pixel", False)
        assert nib.load(tmp_path / "labels.nii.gz").shape == array.shape


def test_volume_without_spacing_is_taken_for_a_millimetre(tmp_path, noise):
    geometry = read_image([unsized(tmp_path / "image.nii.gz", noise)]).geometry
    assert (geometry.unit, geometry.spacing_mm, geometry.sized) == ("mm", (1, 1, 1), False)


@pytest.mark.parametrize("what", ["affine", "unit", "size"])
def test_whatever_a_file_says_of_its_voxels_counts(tmp_path, noise, what):
    image = nib.Nifti1Image(noise[:, :, 0], np.eye(4) if what == "affine" else None)
    if what == "unit":
        image.header.set_xyzt_units("mm")
    if what == "size":
        image.header.set_zooms((0.5, 0.5))
    nib.save(image, tmp_path / "image.nii.gz")
    geometry = read_image([tmp_path / "image.nii.gz"]).geometry
    assert (geometry.unit, geometry.sized) == ("mm", True)
    assert geometry.spacing_mm == ((0.5, 0.5) if what == "size" else (1, 1))
