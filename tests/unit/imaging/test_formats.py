"""The ending of a name says the format, whatever its case."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from veilseg.errors import InvalidImage
from veilseg.imaging import formats


@pytest.mark.parametrize(
    ("name", "ending", "results"),
    [
        ("a.nii.gz", ".nii.gz", (".nii.gz", ".nii")),
        ("a.b.NII", ".NII", (".nii.gz", ".nii")),
        ("a.png", ".png", (".png",)),
        ("a.PNG", ".PNG", (".png",)),
        ("a", "", (".nii.gz", ".nii")),
        ("a.DCM", ".DCM", (".dcm", ".nii.gz", ".nii")),
        ("a.zip", ".zip", (".dcm", ".nii.gz", ".nii")),
    ],
)
def test_endings(name, ending, results):
    assert formats.ending_of(Path("folder") / name) == ending
    assert formats.result_endings(Path("folder") / name) == results


def test_dicom_without_an_ending_is_known_by_what_is_there(tmp_path):
    exported = tmp_path / "IM0001"
    exported.write_bytes(bytes(128) + b"DICM")
    named = tmp_path / "x.nii"
    named.mkdir()
    other = tmp_path / "text"
    other.write_text("no image")
    found = [formats.is_dicom(path) for path in (tmp_path, exported, named, other)]
    assert found == [True, True, False, False]
    assert formats.result_endings(tmp_path) == (".dcm", ".nii.gz", ".nii")
    assert formats.map_endings(tmp_path) == (".nii.gz", ".nii")
    assert formats.map_endings(tmp_path / "x.png") == (".png",)


@pytest.mark.parametrize(
    ("name", "further"),
    [
        ("scan_0000.nii.gz", "scan_0002.nii.gz"),
        ("scan_0000", "scan_0002"),
        ("a_0000.b_0000.zip", "a_0002.b_0000.zip"),
        ("scan.nii.gz", None),
        ("scan_0001", None),
    ],
)
def test_names_of_channels(name, further):
    found = formats.channel(Path("folder") / name, 2)
    assert found == (further and Path("folder") / further)


def test_each_format_reads_its_own(tmp_path, write_nifti):
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    Image.fromarray(pixels).save(tmp_path / "x.PNG")
    assert formats.read_image([tmp_path / "x.PNG"]).geometry.unit == "pixel"
    assert formats.read_header(tmp_path / "x.PNG")[1].shape == (4, 3)
    file = write_nifti(pixels)
    assert formats.read_image([file]).geometry.unit == "mm"
    labels = formats.read_label_map(file)
    np.testing.assert_array_equal(labels.array, pixels)
    formats.write_label_map(tmp_path / "out.png", labels)
    np.testing.assert_array_equal(formats.read_label_map(tmp_path / "out.png").array, pixels)
    with pytest.raises(InvalidImage, match="not a PNG image"):
        formats.read_image([file.rename(tmp_path / "nifti.png")])
    with pytest.raises(InvalidImage, match="no image file given"):
        formats.read_image([])
