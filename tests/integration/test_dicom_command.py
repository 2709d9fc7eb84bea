"""``veilseg segment`` of DICOM, as a hospital has it: series in, segmentations out."""

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import dicoms
import nibabel as nib
import numpy as np
import phantoms
import pydicom
import pytest
from servers import OracleServer, RecordingRelay

from veilseg.bundle import open_client_half
from veilseg.imaging import formats
from veilseg.imaging.dicom_series import read_series

AFFINE = dicoms.oblique(7, (1, 1, 1))


@pytest.fixture
def series(tmp_path: Path, labels: np.ndarray) -> Path:
    return dicoms.write_series(tmp_path / "series", phantoms.raw_image(labels), AFFINE)


@pytest.fixture
def here(plain_bundle: Path) -> list[object]:
    return ["--bundle", plain_bundle, "--local"]


def require_labels(path: Path, labels: np.ndarray) -> None:
    found = formats.read_label_map(path)
    np.testing.assert_array_equal(found.array, labels)
    np.testing.assert_allclose(found.geometry.affine, AFFINE, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["folder", "zip", "file"])
def test_series_to_segmentation(tmp_path, series, labels, here, veilseg, kind):
    image = series
    if kind == "zip":
        image = tmp_path / "export.zip"
        with zipfile.ZipFile(image, "w") as archive:
            for file in series.iterdir():
                archive.write(file, f"DICOM/{file.name}")
    elif kind == "file":
        image = tmp_path / "enhanced"
        halved = phantoms.raw_image(labels) // 2 + 2  # the generator's rescale is 2·x − 3
        dicoms.enhanced(halved, AFFINE, range(labels.shape[2])).save_as(
            image, enforce_file_format=True
        )
    out, plain = tmp_path / "out.dcm", tmp_path / "out.nii.gz"
    ended = veilseg("segment", image, *here, "-o", out)
    assert (ended.code, ended.errors) == (0, [])
    assert ended.out.startswith(f"{out}: shell ")
    require_labels(out, labels)
    source = read_series(image)
    written = pydicom.dcmread(out)
    assert written.FrameOfReferenceUID == source.frame_of_reference
    assert veilseg("segment", image, *here, "-o", plain).code == 0
    require_labels(plain, labels)


def test_a_labelmap_instead_of_bits(tmp_path, series, labels, image, here, veilseg, expect):
    out = tmp_path / "out.dcm"
    assert veilseg("segment", series, *here, "--labelmap", "-o", out).code == 0
    assert pydicom.dcmread(out).SegmentationType == "LABELMAP"
    require_labels(out, labels)
    line = expect(2, image, *here, "--labelmap")
    assert line == "--labelmap: is for DICOM segmentations (-o FILE.dcm)"


def test_several_series_go_to_a_folder_and_maps_to_nifti(tmp_path, series, labels, here, veilseg):
    shutil.copytree(series, tmp_path / "other.series")
    out = tmp_path / "results"
    ended = veilseg("segment", series, tmp_path / "other.series", *here, "-o", out)
    assert ended.code == 0
    assert {path.name for path in out.iterdir()} == {"series.dcm", "other.series.dcm"}
    for path in out.iterdir():
        require_labels(path, labels)
    maps = [tmp_path / "entropy.nii.gz", tmp_path / "proxy.nii.gz"]
    options = ["--uncertainty", maps[0], "--save-proxy", maps[1], "-o", tmp_path / "one.dcm"]
    assert veilseg("segment", series, *here, *options).code == 0
    entropy = nib.load(maps[0])
    np.testing.assert_allclose(entropy.affine, AFFINE, rtol=0, atol=1e-4)
    assert entropy.shape == labels.shape
    np.testing.assert_array_equal(nib.load(maps[1]).affine, np.eye(4))


def test_the_folder_one_stands_in(tmp_path, series, labels, here, veilseg, monkeypatch):
    monkeypatch.chdir(series)
    assert veilseg("segment", ".", *here, "-o", tmp_path / "results").code == 0
    require_labels(tmp_path / "results" / "series.dcm", labels)


def test_channels_are_series_named_alike(tmp_path, labels, veilseg):
    bundle = phantoms.make_bundle(tmp_path / "two", "plain", channels=2)
    options = {"affine": AFFINE, "space": "1.2.3"}
    raw = phantoms.raw_image(labels)
    first = dicoms.write_series(tmp_path / "case_0000", raw, **options)
    command = ["segment", first, "--bundle", bundle, "--local", "-o", tmp_path / "out.dcm"]
    ended = veilseg(*command)
    assert ended.code == 3
    assert "case_0001: no such file: case_0000 holds one channel" in ended.err
    dicoms.write_series(tmp_path / "case_0001", raw + 1, **options)
    assert veilseg(*command).code == 0
    require_labels(tmp_path / "out.dcm", labels)


def test_nothing_of_the_header_is_sent_or_told(
    tmp_path, plain_bundle, series, labels, veilseg, caplog
):
    """What leaves is what leaves of the same voxels as NIfTI, tile by tile; nothing else does."""
    same = phantoms.write_nifti(tmp_path / "same.nii.gz", phantoms.raw_image(labels), AFFINE)
    header = pydicom.dcmread(next(series.iterdir()))
    secrets = [
        *(str(header[name].value) for name in ("PatientName", "PatientID", "PatientBirthDate")),
        *(str(element.value) for element in header if element.VR == "UI" and element.tag.group > 8),
        header.SOPInstanceUID,
        "IM0",
    ]
    assert len(secrets) == 8
    tiles, told = [], ""
    for image in (series, same):
        with OracleServer(open_client_half(plain_bundle).manifest) as server:
            server.behaviour = phantoms.nearest_centre
            with RecordingRelay(server.url.removeprefix("http://")) as relay:
                out = tmp_path / f"out{formats.result_endings(image)[0]}"
                options = ["--bundle", plain_bundle, "--server", relay.url, "-o", out]
                ended = veilseg("segment", image, *options)
                assert ended.code == 0, ended.err
                relay.wait_until_idle()
            tiles.append([tile.tobytes() for tile in server.tiles])
        sent = b"".join(relay.connections)
        assert tiles[-1][0] in sent  # what is looked through are the bytes that left
        told += ended.out + ended.err + caplog.text
        for secret in (*secrets, "series"):
            assert secret.encode() not in sent
            assert secret.encode("latin-1") not in sent
    assert tiles[0] == tiles[1]
    for secret in secrets:
        assert secret not in told


def test_a_site_without_the_extra_segments_nifti(tmp_path, series, image, here):
    code = (
        "import sys; sys.modules.update(pydicom=None, highdicom=None);"
        "from veilseg.cli.main import main; main()"
    )
    ended = {}
    for path, out in ((image, "out.nii.gz"), (series, "out.dcm")):
        command = [sys.executable, "-c", code, "segment", path, *here, "-o", tmp_path / out]
        ended[path] = subprocess.run(map(str, command), capture_output=True, text=True)
    assert ended[image].returncode == 0, ended[image].stderr
    assert ended[series].returncode == 3
    line = f"veilseg: {series}: DICOM needs pydicom and highdicom: pip install 'veilseg[dicom]'\n"
    assert ended[series].stderr == line


def mixed(folder: Path) -> None:
    dicoms.write(folder / "more", dicoms.slices(np.ones((4, 4, 2), np.int16), AFFINE))


def cut(folder: Path) -> None:
    file = sorted(folder.iterdir())[2]
    file.write_bytes(file.read_bytes()[:-50])


def test_a_series_no_segmentation_can_refer_to_is_not_sent(
    expect: Callable, remote, oracle, tmp_path, labels
):
    datasets = dicoms.slices(phantoms.raw_image(labels), AFFINE)
    for dataset in datasets:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.3.4"
    strange = dicoms.write(tmp_path / "strange", datasets)
    line = expect(3, strange, *remote, out=tmp_path / "out.dcm")
    reason = f"no segmentation can refer to the header of {strange} (KeyError); write NIfTI"
    assert line == f"{strange}: {tmp_path}/out.dcm: {reason}"
    assert oracle.tiles == []


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (mixed, "holds 2 series, of 14, 2 images: give a folder, zip or file of one alone"),
        (cut, "file 3 of 14 by name: pixels are damaged or truncated (ValueError)"),
        (lambda folder: [file.unlink() for file in folder.iterdir()], "no DICOM image"),
    ],
    ids=["mixed", "truncated", "empty"],
)
def test_bad_series_are_refused_and_not_sent(
    expect: Callable, remote, oracle, tmp_path, series, spoil, reason
):
    spoil(series)
    line = expect(3, series, *remote, out=tmp_path / "out.dcm")
    assert line == f"{series}: {reason}"
    assert oracle.tiles == []


def test_outputs_that_do_not_go(expect: Callable, tmp_path, series, image, here):
    line = expect(2, series, *here, out=tmp_path / "x.png")
    assert line == f"{tmp_path}/x.png: must end in .dcm or .nii.gz or .nii, as labels of series"
    line = expect(2, image, *here, out=tmp_path / "x.dcm")
    assert line.endswith("must end in .nii.gz or .nii, as labels of scan.nii.gz")
    first, second = (series.rename(tmp_path / "case_0000"), tmp_path / "case_0001")
    shutil.copytree(first, second)
    for file in (next(first.iterdir()), next(second.iterdir())):
        line = expect(3, first, *here, out=file)
        assert line == f"{file}: would overwrite a file of the image; choose another"
    series = first.rename(series)
    line = expect(2, series, *here, "--uncertainty", tmp_path / "u.dcm", out=tmp_path / "o.dcm")
    assert line.endswith("--uncertainty must end in .nii.gz or .nii")


def test_real_series(shared_data, tmp_path, veilseg):
    """A bundle of phantoms on a real head: what matters is where the result lies."""
    folder = shared_data / "dicom_mr_t1" / "series"
    if not folder.is_dir():
        pytest.skip("needs the series dicom_mr_t1 of the shared data sets")
    bundle = phantoms.make_bundle(tmp_path / "plain", "plain", raw_scale=160)
    out, plain = tmp_path / "out.dcm", tmp_path / "out.nii.gz"
    for path in (out, plain):
        assert veilseg("segment", folder, "--bundle", bundle, "--local", "-o", path).code == 0
    one, other = formats.read_label_map(out), formats.read_label_map(plain)
    assert one.array.shape == (274, 384, 44)
    assert set(np.unique(one.array)) == {0, 1, 2}
    np.testing.assert_array_equal(one.array, other.array)
    np.testing.assert_allclose(one.geometry.affine, other.geometry.affine, rtol=0, atol=1e-4)
    written, source = pydicom.dcmread(out), pydicom.dcmread(next(folder.rglob("*.dcm")))
    for what in ("FrameOfReferenceUID", "StudyInstanceUID", "PatientID"):
        assert written[what].value == source[what].value
