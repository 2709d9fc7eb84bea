"""Files of other makers and damaged ones: read, or refused in one line; never a trace."""

from pathlib import Path

import dicoms
import numpy as np
import phantoms
import pydicom.data
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from veilseg.errors import InvalidImage
from veilseg.imaging import dicom

RAW = phantoms.raw_image(phantoms.truth())
COLLECTION = Path(pydicom.data.__file__).parent / "test_files"
FOREIGN = sorted(COLLECTION.glob("*.dcm"))


def outcome(path: Path) -> str | None:
    """Why a file is refused; None if it is read."""
    try:
        dicom.read_image([path])
    except InvalidImage as error:
        line = str(error)
        assert line.startswith(f"{path}: ")
        assert "\n" not in line
        return line.removeprefix(f"{path}: ")
    return None


@pytest.mark.parametrize("path", FOREIGN, ids=lambda path: path.stem)
def test_files_that_come_with_pydicom(path, capfd):
    outcome(path)
    # Nothing is printed beside the line, by C libraries neither.
    assert capfd.readouterr() == ("", "")


def test_some_of_them_are_images():
    read = {path.stem for path in FOREIGN if outcome(path) is None}
    assert {"MR_small", "CT_small", "MR_small_RLE", "MR_small_jpeg_ls_lossless"} <= read


def test_compressed_slice_equals_the_same_slice_uncompressed():
    one, *others = (
        dicom.read_image([COLLECTION / f"MR_small{kind}.dcm"]).array
        for kind in ("", "_RLE", "_jpeg_ls_lossless", "_bigendian", "_implicit")
    )
    for other in others:
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    order = range(RAW.shape[2])
    path = tmp_path_factory.mktemp("whole") / "x"
    dicoms.enhanced(RAW, dicoms.oblique(), order).save_as(path, enforce_file_format=True)
    return path.read_bytes()


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.floats(0, 1), value=st.integers(0, 255), cut=st.booleans())
@example(place=1.0, value=0, cut=True)
def test_damaged_files(tmp_path, whole, place, value, cut):
    content = bytearray(whole)
    index = int(place * (len(content) - 1))
    if cut:
        del content[index:]
    else:
        content[index] = value
    path = tmp_path / "x.dcm"
    path.write_bytes(content)
    reason = outcome(path)
    assert reason or not cut


def test_every_single_damaged_byte_of_a_header(tmp_path, whole):
    """Each byte of the header in turn, each a value that makes lengths and kinds go wrong."""
    path = tmp_path / "x.dcm"
    header = len(whole) - RAW.nbytes
    for index in range(128, header, 3):
        content = bytearray(whole)
        content[index] ^= 0xFF if index % 2 else 0x55
        path.write_bytes(content)
        outcome(path)


@pytest.mark.parametrize("length", [7306, 7326])
def test_number_of_a_length_that_none_has(tmp_path, whole, length):
    """A header that begins without a VR, and says so much of its own length."""
    content = bytearray(whole)
    content[136:140] = length.to_bytes(4, "little")
    path = tmp_path / "x.dcm"
    path.write_bytes(content)
    assert outcome(path) == "damaged or truncated (BytesLengthException)"
