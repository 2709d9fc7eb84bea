"""Cases of every kind of file, and those that are not of their data set's or bundle's kind."""

from pathlib import Path

import numpy as np
import phantoms
import pytest

from veilseg.bundle import IntensityRule, open_client_half
from veilseg.datasets.cases import prepare_case, prepare_case_for, read_case
from veilseg.datasets.layout import read_dataset
from veilseg.errors import GeometryMismatch, InvalidDataset, InvalidImage
from veilseg.imaging import formats
from veilseg.training.plan import plan_and_prepare

TRUTH = phantoms.truth((14, 12))
RAW = phantoms.raw_image(TRUTH).astype(np.uint16)
COLOURS = np.stack([RAW // 4, RAW // 5, RAW // 6]).astype(np.uint8)


def dataset(folder: Path, ending: str, images: list[list[np.ndarray]], channels: int = 1) -> Path:
    """One case per entry of ``images``, each a list of the arrays of its files."""
    phantoms.make_dataset(folder, ())
    path = folder / "dataset.json"
    names = ", ".join(f'"{i}": "channel {i}"' for i in range(channels))
    text = path.read_text().replace('"0": "contrast 0"', names)
    path.write_text(text.replace('".nii.gz"', f'"{ending}"'))
    rows = ["case,patient"]
    write = phantoms.write_png if ending == ".png" else phantoms.write_nifti
    for number, arrays in enumerate(images):
        for channel, array in enumerate(arrays):
            write(folder / "imagesTr" / f"case{number}_{channel:04d}{ending}", array)
        write(folder / "labelsTr" / f"case{number}{ending}", TRUTH)
        rows.append(f"case{number},p{number}")
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    return folder


KINDS = {
    "grey PNG": (".png", [RAW], 1),
    "RGB PNG": (".png", [COLOURS], 3),
    "grey PNG per channel": (".png", list(COLOURS), 3),
    "slices": (".nii.gz", [RAW], 1),
    "slices with a third axis, uncompressed": (".nii", [RAW[..., None]] * 2, 2),
}


@pytest.mark.parametrize(("ending", "files", "channels"), KINDS.values(), ids=KINDS)
def test_every_kind_of_2d_data_set(tmp_path: Path, ending: str, files: list, channels: int):
    found = read_dataset(dataset(tmp_path / "data", ending, [files] * 3, channels))
    assert found.spatial_dims == 2
    for case in found.cases:
        assert len(case.images) == len(files)
        assert (case.channels, case.spatial_dims) == (channels, 2)
    case = found.cases[0]
    volume, labels = read_case(case, 3)
    np.testing.assert_array_equal(
        volume.array, np.concatenate([f.reshape(-1, 14, 12) for f in files])
    )
    np.testing.assert_array_equal(labels.array, TRUTH)
    ready = prepare_case(case, 3, (1.0, 1.0), IntensityRule("window", 0, 1000), (16, 16))
    assert ready.image.shape == (channels, 16, 16)
    assert ready.labels.shape == (16, 16)
    plan, prepared = plan_and_prepare(found, found.cases, lambda *counts: None)
    assert plan.unit == ("pixel" if ending == ".png" else "mm")
    assert plan.spacing_mm == (1, 1)
    assert len(plan.tile_shape) == 2
    assert all(one.image.shape == (channels, *plan.tile_shape) for one in prepared)


def test_only_the_first_header_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = dataset(tmp_path / "data", ".png", [[RAW]] * 5)
    read = []
    monkeypatch.setattr(formats, "read_header", lambda path: read.append(path) or (1, GEOMETRY))
    read_dataset(folder)
    assert [path.name for path in read] == ["case0_0000.png"]


GEOMETRY = formats.Geometry((2, 2), np.eye(4))


@pytest.mark.parametrize(("array", "channels"), [(COLOURS, 1), (COLOURS, 2), (COLOURS, 4)])
def test_first_image_with_other_channels(tmp_path: Path, array: np.ndarray, channels: int):
    folder = dataset(tmp_path / "data", ".png", [[array]], channels)
    reason = f"case0_0000.png: holds 3 channels; dataset.json names {channels}: channel 0"
    with pytest.raises(InvalidDataset, match=reason):
        read_dataset(folder)


def test_grey_in_place_of_rgb_misses_its_other_channels(tmp_path: Path):
    folder = dataset(tmp_path / "data", ".png", [[RAW]], 3)
    with pytest.raises(InvalidDataset, match=r"case0_0001\.png: missing for case case0"):
        read_dataset(folder)


def test_first_image_that_is_none(tmp_path: Path):
    folder = dataset(tmp_path / "data", ".png", [[RAW]])
    (folder / "imagesTr" / "case0_0000.png").write_text("text")
    with pytest.raises(InvalidImage, match=r"case0_0000\.png: not a PNG image"):
        read_dataset(folder)


SOLID = phantoms.raw_image(phantoms.truth((6, 5, 4)))


@pytest.mark.parametrize(
    ("ending", "files", "other", "channels", "error", "reason"),
    [
        (".nii", [RAW], [SOLID], 1, InvalidDataset, "is 3D; the data set is 2D, as its first"),
        (".nii", [SOLID], [RAW], 1, InvalidDataset, "is 2D; the data set is 3D, as its first"),
        (".png", [RAW], [COLOURS], 1, InvalidDataset, "channels: 3 in the file, 1 in the data set"),
        (".png", [COLOURS], [RAW], 3, InvalidDataset, "channels: 1 in the file, 3 in the data set"),
        (".png", [RAW], [RAW[1:]], 1, GeometryMismatch, "case1.png: shape"),
        (".png", [RAW] * 2, [RAW, RAW[1:]], 2, GeometryMismatch, "case1_0001.png: shape"),
    ],
)
def test_a_later_image_of_another_kind(
    tmp_path: Path, ending: str, files: list, other: list, channels: int, error: type, reason: str
):
    found = read_dataset(dataset(tmp_path / "data", ending, [files, other], channels))
    with pytest.raises(error, match=reason) as caught:
        read_case(found.cases[1], 3)
    assert "case1" in str(caught.value)


def test_label_that_dataset_json_does_not_name(tmp_path: Path):
    folder = dataset(tmp_path / "data", ".png", [[RAW]])
    phantoms.write_png(folder / "labelsTr" / "case0.png", TRUTH + 1)
    with pytest.raises(InvalidDataset, match=r"case0\.png: label 3 is not in dataset\.json"):
        read_case(read_dataset(folder).cases[0], 3)


def test_cases_for_a_bundle_are_of_its_kind(tmp_path: Path):
    case = read_dataset(dataset(tmp_path / "data", ".png", [[RAW]])).cases[0]

    def manifest(name: str, **kind: object):
        return open_client_half(phantoms.make_bundle(tmp_path / name, "plain", **kind)).manifest

    ready = prepare_case_for(case, manifest("pixels", spatial_dims=2, unit="pixel"))
    assert ready.image.shape == (1, 16, 16)
    np.testing.assert_array_equal(ready.labels[1:15, 2:14], TRUTH)
    for kind, reason in (
        ({"spatial_dims": 2}, "does not say how large a pixel is"),
        ({"unit": "pixel"}, "is 2D; the bundle takes 3D images"),
        ({"spatial_dims": 2, "unit": "pixel", "channels": 2}, "has 1 channel; the bundle takes 2"),
    ):
        with pytest.raises(InvalidImage, match=reason) as caught:
            prepare_case_for(case, manifest("-".join(kind), **kind))
        assert str(caught.value).startswith(f"{case.images[0]}: ")
