"""A DICOM series is the volume it was made of, however it is stored."""

import zipfile
from pathlib import Path

import dicoms
import numpy as np
import phantoms
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    EnhancedSRStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from veilseg.errors import GeometryMismatch
from veilseg.imaging import dicom, formats, nifti

RAW = phantoms.raw_image(phantoms.truth())
AFFINE = dicoms.oblique()
# A decimal string has 16 characters, of which a position takes up to 4 before the point.
WRITTEN_MM = 1e-8


def require_equal(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    volume = dicom.read_image([path])
    np.testing.assert_array_equal(volume.array[0], array)
    np.testing.assert_allclose(volume.geometry.affine, affine, rtol=0, atol=WRITTEN_MM)
    assert volume.array.dtype == np.float32
    assert dicom.read_header(path)[0] == 1
    assert dicom.read_header(path)[1].shape == array.shape


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 2**16),
    spacing=st.tuples(*[st.floats(0.3, 5)] * 3),
    shape=st.tuples(*[st.integers(2, 5)] * 3),
)
def test_oblique_series_equals_the_same_volume_as_nifti(tmp_path, seed, spacing, shape):
    affine = dicoms.oblique(seed, spacing)
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    folder = tmp_path / f"{seed} {spacing} {shape}"
    dicoms.write(folder, dicoms.slices(array, affine), seed)
    one = dicom.read_image([folder])
    other = nifti.read_image([phantoms.write_nifti(tmp_path / "same.nii.gz", array, affine)])
    np.testing.assert_array_equal(one.array, other.array)
    # NIfTI keeps its affine in single precision.
    np.testing.assert_allclose(one.geometry.affine, other.geometry.affine, rtol=1e-6, atol=1e-5)
    assert one.geometry.shape == other.geometry.shape
    np.testing.assert_allclose(one.geometry.spacing_mm, spacing, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.uint8])
@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]
)
def test_plain_encodings(tmp_path, syntax, dtype):
    array = (RAW % 251).astype(dtype)
    if dtype == np.int16:
        array -= 100  # both signs
    require_equal(dicoms.write_series(tmp_path / "s", array, AFFINE, syntax=syntax), array, AFFINE)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_compressed_encodings(tmp_path, syntax):
    # JPEG 2000 halves its image five times.
    array = phantoms.raw_image(phantoms.truth((70, 66, 3))).clip(0).astype(np.uint16)
    datasets = dicoms.slices(array, AFFINE)
    for dataset in datasets:
        dataset.compress(syntax, generate_instance_uid=False)
    require_equal(dicoms.write(tmp_path / "s", datasets), array, AFFINE)


def test_slices_lie_by_position_whatever_their_names(tmp_path):
    for seed in range(3):
        folder = dicoms.write(tmp_path / f"s{seed}", dicoms.slices(RAW, AFFINE), seed)
        require_equal(folder, RAW, AFFINE)


def test_slices_written_against_their_normal_are_turned(tmp_path):
    left_handed = AFFINE @ np.diag([1, 1, -1, 1])
    turned = left_handed.copy()
    turned[:3, 3] += (RAW.shape[2] - 1) * left_handed[:3, 2]
    turned[:3, 2] *= -1
    folder = dicoms.write_series(tmp_path / "s", RAW, left_handed)
    require_equal(folder, RAW[:, :, ::-1], turned)


def test_intensities_are_rescaled_slice_by_slice(tmp_path):
    slopes = np.linspace(0.5, 3, RAW.shape[2])
    folder = dicoms.write_series(tmp_path / "s", RAW, AFFINE, slopes=slopes, intercept=-1024)
    expected = (RAW * slopes - 1024).astype(np.float32)
    found = dicom.read_image([folder]).array[0]
    # Slopes are decimal strings of 16 characters.
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_one_file_of_many_slices(tmp_path):
    order = np.random.default_rng(1).permutation(RAW.shape[2])
    dataset = dicoms.enhanced(RAW, AFFINE, order)
    path = tmp_path / "enhanced"
    dataset.save_as(path, enforce_file_format=True)
    require_equal(path, 2.0 * RAW - 3, AFFINE)


def test_one_slice_is_an_image_in_the_plane(tmp_path):
    folder = dicoms.write_series(tmp_path / "s", RAW[:, :, 6:7], AFFINE)
    (file,) = folder.iterdir()
    for path in (folder, file):
        geometry = dicom.read_image([path]).geometry
        assert (geometry.shape, geometry.unit, geometry.third_axis) == (RAW.shape[:2], "mm", True)
        np.testing.assert_allclose(geometry.affine, AFFINE, rtol=0, atol=WRITTEN_MM)


def test_folders_in_folders_and_what_is_no_image_in_them(tmp_path):
    folder = tmp_path / "export"
    datasets = dicoms.slices(RAW, AFFINE)
    dicoms.write(folder / "A", datasets[:5], ending="")
    dicoms.write(folder / "B" / "C", datasets[5:], ending="")
    (folder / "README.txt").write_text("see DICOMDIR")
    (folder / "empty").touch()
    (folder / "A" / "._IM0001.dcm").write_text("of macOS")
    report = dicoms.slices(RAW, AFFINE)[0]
    for name in ("Rows", "Columns", "PixelData"):
        delattr(report, name)
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = EnhancedSRStorage
    report.save_as(folder / "DICOMDIR", enforce_file_format=True)
    require_equal(folder, RAW, AFFINE)
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        archive = tmp_path / "export.zip"
        with zipfile.ZipFile(archive, "w", compression) as opened:
            for file in sorted(folder.rglob("*")):
                opened.write(file, file.relative_to(folder))
        require_equal(archive, RAW, AFFINE)


def test_small_unevenness_is_rounding(tmp_path):
    datasets = dicoms.slices(RAW, np.diag([1.0, 1, 0.7, 1]))
    for dataset in datasets:
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, round(float(z), 1)]
    affine = dicom.read_image([dicoms.write(tmp_path / "s", datasets)]).geometry.affine
    np.testing.assert_allclose(affine[2, 2], 0.7, atol=0.01)


def test_several_channels_are_several_series_in_one_space(tmp_path):
    space = "1.2.3"
    one = dicoms.write_series(tmp_path / "c_0000", RAW, AFFINE, space=space)
    two = dicoms.write_series(tmp_path / "c_0001", RAW + 1, AFFINE, space=space)
    volume = formats.read_image([one, two])
    np.testing.assert_array_equal(volume.array, [RAW, RAW + 1])
    assert formats.channel(one, 1) == two
    elsewhere = dicoms.write_series(tmp_path / "d", RAW, AFFINE)
    with pytest.raises(GeometryMismatch, match=r"/d: lies in another frame of reference than .*_0"):
        formats.read_image([one, elsewhere])
    moved = dicoms.write_series(tmp_path / "e", RAW, dicoms.oblique(3), space=space)
    with pytest.raises(GeometryMismatch, match=r"/e: lies .* mm off the grid of"):
        formats.read_image([one, moved])


def test_real_series(shared_data):
    folder = shared_data / "dicom_mr_t1" / "series"
    if not folder.is_dir():
        pytest.skip("needs the series dicom_mr_t1 of the shared data sets")
    volume = dicom.read_image([folder])
    assert volume.array.shape == (1, 274, 384, 44)
    np.testing.assert_allclose(volume.geometry.spacing_mm, (0.699988, 0.666667, 0.666667), 1e-4)
    # Head first, supine: columns run to the left, rows to the back, slices to the head.
    assert (np.sign(np.diag(volume.geometry.affine)[:3]) == (-1, -1, 1)).all()
