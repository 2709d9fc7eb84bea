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
    ],
)
def test_endings(name, ending, results):
    assert formats.ending_of(Path("folder") / name) == ending
    assert formats.result_endings(Path("folder") / name) == results


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
