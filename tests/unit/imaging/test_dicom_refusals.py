"""What is no usable series is refused in one line that says nothing of the patient."""

import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import dicoms
import numpy as np
import phantoms
import pytest
from pydicom.pixels.decoders.base import Decoder
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
)

from veilseg.errors import InvalidImage, MissingDependency
from veilseg.imaging import checks, dicom, formats

RAW = phantoms.raw_image(phantoms.truth())
AFFINE = dicoms.oblique(spacing=(1, 1, 2))


def refused(path: Path) -> str:
    """The line, without the path."""
    with pytest.raises(InvalidImage) as caught:
        dicom.read_image([path])
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    reason = line.removeprefix(f"{path}: ")
    for secret in ("Gr", "secret", "IM0", "1.2.", "19700102", "A17"):
        assert secret not in reason
    return reason


def each(**attributes: object) -> Callable[[list], None]:
    def change(datasets: list) -> None:
        for dataset in datasets:
            for name, value in attributes.items():
                setattr(dataset, name, value)

    return change


def one(**attributes: object) -> Callable[[list], None]:
    return lambda datasets: each(**attributes)(datasets[4:5])


def without(*names: str) -> Callable[[list], None]:
    def change(datasets: list) -> None:
        for name in names:
            delattr(datasets[4], name)

    return change


def tilted(datasets: list) -> None:
    for k, dataset in enumerate(datasets):
        row = np.array(dataset.ImageOrientationPatient[3:], dtype=float)
        position = np.array(dataset.ImagePositionPatient, dtype=float) + 0.3 * k * row
        dataset.ImagePositionPatient = [f"{value:.6f}" for value in position]


def moved(share: float) -> Callable[[list], None]:
    """The fifth slice goes towards the sixth by a share of their distance."""

    def change(datasets: list) -> None:
        places = [np.array(datasets[k].ImagePositionPatient, dtype=float) for k in (4, 5)]
        place = places[0] + share * (places[1] - places[0])
        datasets[4].ImagePositionPatient = [f"{value:.6f}" for value in place]

    return change


def drop(*places: int) -> Callable[[list], None]:
    def change(datasets: list) -> None:
        datasets[:] = [dataset for k, dataset in enumerate(datasets) if k not in places]

    return change


def two_series(datasets: list) -> None:
    datasets += dicoms.slices(RAW[:, :, :3], AFFINE)


def coloured(datasets: list) -> None:
    each(SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)(datasets)


def smaller(datasets: list) -> None:
    datasets[4].Rows = 10


def of_several_frames(datasets: list) -> None:
    del datasets[1:]
    datasets[0].NumberOfFrames = 2
    datasets[0].PixelData = 2 * datasets[0].PixelData


def short(datasets: list) -> None:
    datasets[4].PixelData = datasets[4].PixelData[:-20]


def unreadable(datasets: list) -> None:
    """Announced as RLE, and none."""
    datasets[4].compress(RLELossless, generate_instance_uid=False)
    datasets[4].PixelData = datasets[4].PixelData[:20] + bytes(len(datasets[4].PixelData) - 20)


NO_PLACE = "does not say where its pixels lie in the patient (a secondary capture"
BAD_SERIES: dict[str, tuple[dicoms.Change, str]] = {
    "gantry tilt": (tilted, "is stacked 8.5 degrees off the normal of its slices (gantry tilt)"),
    "a missing slice": (drop(4), "1 of 13 slices are missing: they lie 2 mm apart, once 4 mm"),
    "two gaps": (drop(3, 8, 9), "3 of 13 slices are missing: they lie 2 mm apart, once 6 mm"),
    "uneven": (moved(0.3), "slices lie unevenly, 1.4 to 2.6 mm apart; up to 10% off an even"),
    "duplicates": (moved(1.0), "several slices lie at one place, of 13 in all"),
    "two series": (two_series, "holds 2 series, of 13, 3 images: give a folder, zip or file of"),
    "colour": (coloured, "is a colour image; grey is expected"),
    "palette": (one(PhotometricInterpretation="PALETTE COLOR"), "is a colour image"),
    "negative": (each(PhotometricInterpretation="MONOCHROME1"), "is a negative (MONOCHROME1)"),
    "turned": (
        one(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
        "is turned against the first of its series",
    ),
    "skewed": (one(ImageOrientationPatient=[1, 0, 0, 0.5, 1, 0]), "rows and columns are not at"),
    "other size": (smaller, "has (14, 10) pixels, the first of its series (14, 12)"),
    "other pixels": (one(PixelSpacing=[1, 1.1]), "has another pixel spacing than the first"),
    "no pixels of size": (one(PixelSpacing=[0, 1]), "has no usable position or pixel spacing"),
    "no position": (without("ImagePositionPatient"), NO_PLACE),
    "no orientation": (without("ImageOrientationPatient"), NO_PLACE),
    "no spacing": (without("PixelSpacing"), NO_PLACE),
    "no space": (without("FrameOfReferenceUID"), "names no frame of reference"),
    "other space": (one(FrameOfReferenceUID="1.2.3"), "lies in another frame of reference"),
    "frames without place": (of_several_frames, "has many frames and does not say where each"),
    "no pixels": (without("PixelData"), "has no pixel data: no image, or truncated"),
    "short": (short, "pixels are damaged or truncated"),
    "damaged": (unreadable, "pixels are damaged or truncated"),
    "no kind of pixels": (without("PhotometricInterpretation"), "does not say what its pixels are"),
    "table": (one(ModalityLUTSequence=[]), "has a table of intensities"),
    "constant": (each(RescaleSlope=0, RescaleIntercept=7), "is constant: every voxel is 7"),
    "no number": (each(RescaleSlope="NaN", RescaleIntercept=7), "holds NaN or infinite"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("change", "reason"), BAD_SERIES.values(), ids=BAD_SERIES)
def test_bad_series(tmp_path, change, reason):
    datasets = dicoms.slices(RAW, AFFINE)
    change(datasets)
    assert reason in refused(dicoms.write(tmp_path / "series", datasets))


def test_a_file_is_counted_not_named(tmp_path):
    datasets = dicoms.slices(RAW, AFFINE)
    coloured(datasets[4:5])
    assert re.match(
        r"file \d+ of 13 by name: is a", refused(dicoms.write(tmp_path / "s", datasets))
    )


@pytest.mark.parametrize("kept", [100, 131, 140, 200, 700, -100])
def test_truncated_files(tmp_path, kept):
    folder = dicoms.write_series(tmp_path / "s", RAW, AFFINE)
    file = sorted(folder.iterdir())[-1]
    file.write_bytes(file.read_bytes()[:kept])
    assert re.match(r"file 13 of 13 by name: .*(damaged|truncated|does not)", refused(folder))
    assert re.match(r".*(damaged|truncated|does not|not a DICOM)", refused(file))


def test_unknown_and_missing_compression(tmp_path, monkeypatch):
    datasets = dicoms.slices(RAW, AFFINE)
    for dataset in datasets:
        dataset.compress(RLELossless, generate_instance_uid=False)
    datasets[3].file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"  # MPEG-4
    line = refused(dicoms.write(tmp_path / "video", datasets))
    assert line.endswith("is compressed in a way that is not read here")
    datasets[3].file_meta.TransferSyntaxUID = JPEGLosslessSV1
    with monkeypatch.context() as patched:
        patched.setattr(Decoder, "is_available", False)
        datasets[:3] = datasets[10:] = []
        line = refused(dicoms.write(tmp_path / "jpeg", datasets))
        assert line.endswith("not read here: pip install 'veilseg[dicom-jpeg]'")
    datasets[0].file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    assert "pixels are damaged" in refused(dicoms.write(tmp_path / "damaged", datasets))


def test_inflating_without_limit_is_refused(tmp_path):
    datasets = dicoms.slices(RAW, AFFINE, syntax=DeflatedExplicitVRLittleEndian)
    assert "is deflated as a whole" in refused(dicoms.write(tmp_path / "s", datasets))


def test_no_series(tmp_path):
    assert refused(tmp_path / "nothing.dcm") == "no such file"
    text = tmp_path / "text.dcm"
    text.write_text("no image")
    assert "not a DICOM file, though named as one" in refused(text)
    folder = tmp_path / "folder"
    folder.mkdir()
    assert refused(folder) == "no DICOM image"
    (folder / "README").write_text("nothing here")
    assert refused(folder) == "no DICOM image"


def test_several_files_of_many_slices(tmp_path):
    datasets = [dicoms.enhanced(RAW, AFFINE, range(13)) for _ in range(2)]
    datasets[1].SeriesInstanceUID = datasets[0].SeriesInstanceUID
    folder = dicoms.write(tmp_path / "s", datasets)
    assert refused(folder) == "holds 2 files of many slices each: give one alone"


def test_a_file_that_places_more_slices_than_it_holds(tmp_path):
    dataset = dicoms.enhanced(RAW, AFFINE, range(13))
    dataset.NumberOfFrames = 12
    dataset.PixelData = dataset.PixelData[: -len(dataset.PixelData) // 13]
    (folder := tmp_path / "s").mkdir()
    dataset.save_as(folder / "x.dcm", enforce_file_format=True)
    assert "holds 12 slices and says where 13 lie" in refused(folder / "x.dcm")


def zipped(path: Path, names: list[str], content: bytes = b"", method: int = 8) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in names:
            archive.writestr(name, content)
    return path


def test_bad_zips(tmp_path):
    path = tmp_path / "x.zip"
    path.write_bytes(b"PK not at all")
    assert refused(path) == "not a zip, damaged or truncated"
    for name in ("../out.dcm", "/etc/x", "a/../../b", "C:\\x", "..\\x", "\\\\host\\share\\x"):
        zipped(path, ["fine.dcm", name])
        assert refused(path) == "holds a file whose name leads out of the zip"
    zipped(path, ["a"], b"text", zipfile.ZIP_BZIP2)
    assert "is compressed otherwise" in refused(path)
    zipped(path, ["a.txt"], b"text")
    assert refused(path) == "no DICOM image"
    content = bytearray(path.read_bytes())
    # Bit 0 of the flags, in the directory at the end.
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    assert refused(path) == "is encrypted; unpack it first"
    zipped(path, ["a.dcm"], bytes(1000))
    content = path.read_bytes().replace((1000).to_bytes(4, "little"), (900).to_bytes(4, "little"))
    path.write_bytes(content)
    assert "cannot be read" in refused(path)


def test_bombs_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    path = zipped(tmp_path / "bomb.zip", ["a.dcm", "b.dcm"], bytes(30_000_000))
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(checks, "_memory_bytes", lambda: 200_000_000)
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("was unpacked"))
    assert refused(path) == (
        "holds 60,000,000 bytes, unpacked, more than the 50,000,000 that fit into memory"
    )


def test_sizes_beyond_memory_are_refused_before_pixels_are_decoded(tmp_path):
    datasets = dicoms.slices(RAW, AFFINE)
    each(Rows=65535, Columns=65535)(datasets)
    for dataset in datasets:
        dataset.NumberOfFrames = 1
    folder = dicoms.write(tmp_path / "s", datasets)
    assert "voxels, more than the" in refused(folder)


def test_writing_needs_a_source(tmp_path):
    labels = formats.LabelMap(phantoms.truth(), dicom.Geometry(phantoms.truth().shape, AFFINE))
    with pytest.raises(dicom.OutputNotWritable, match="is of a DICOM image; write NIfTI"):
        formats.write_label_map(tmp_path / "x.dcm", labels)
    with pytest.raises(dicom.OutputNotWritable, match="maps are not written as DICOM"):
        formats.write_map(tmp_path / "x.dcm", RAW.astype(np.float32), labels.geometry)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("library", ["pydicom", "highdicom"])
def test_without_the_extra_one_line_says_what_to_install(tmp_path, monkeypatch, library):
    for name in [name for name in sys.modules if name.startswith("veilseg.imaging.dicom")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("veilseg.imaging.dicom", raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    line = "DICOM needs pydicom and highdicom: pip install 'veilseg[dicom]'"
    with pytest.raises(MissingDependency, match=re.escape(line)):
        formats.read_image([tmp_path])
