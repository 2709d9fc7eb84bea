"""``veilseg segment`` of slices, pictures and several channels: what is right, and what is not."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import phantoms
import pytest
from PIL import Image

TRUTH = np.pad(phantoms.truth((14, 20)), ((1, 0), (2, 3)))
RAW = phantoms.raw_image(TRUTH)
GREY = (RAW // 4).astype(np.uint8)
RGB = np.stack([GREY, GREY // 2, GREY // 3])
SCALE = phantoms.RAW_SCALE // 4


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[object]]:
    """Options of a local segmentation by a bundle of pictures, made once per kind."""
    made: dict[str, Path] = {}

    def options(scheme: str = "plain", **kind: object) -> list[object]:
        kind = {"spatial_dims": 2, "unit": "pixel", "raw_scale": SCALE, **kind}
        key = f"{scheme} {kind}"
        if key not in made:
            folder = tmp_path_factory.mktemp("bundle")
            made[key] = phantoms.make_bundle(folder / "made", scheme, **kind)
        return ["--bundle", made[key], "--local"]

    return options


@pytest.mark.parametrize("channels", [1, 3])
def test_png_gives_png(veilseg: Callable, bundle: Callable, tmp_path: Path, channels: int):
    image = phantoms.write_png(tmp_path / "scan.png", RGB if channels == 3 else GREY)
    out, document = tmp_path / "out.png", tmp_path / "out.json"
    proxy = tmp_path / "proxy.nii.gz"
    ended = veilseg(
        "segment", image, *bundle(channels=channels), "-o", out, "--json", document,
        "--save-proxy", proxy,
    )  # fmt: skip
    assert (ended.code, ended.errors) == (0, [])
    with Image.open(image) as asked, Image.open(out) as given:
        assert given.mode == "L"
        assert given.size == asked.size
    np.testing.assert_array_equal(phantoms.read_labels(out), TRUTH)
    shell, core = [int((value == TRUTH).sum()) for value in (1, 2)]
    assert ended.out == f"{out}: shell {shell} px, core {core} px\n"
    (entry,) = json.loads(document.read_text())["images"]
    assert entry["areas_px"] == {"shell": shell, "core": core}
    assert "volumes_ml" not in entry
    assert nib.load(proxy).shape == (16, 20, channels)


@pytest.mark.parametrize("third_axis", [False, True])
def test_slice_gives_a_slice(veilseg: Callable, bundle: Callable, tmp_path: Path, third_axis: bool):
    affine = np.array([[0, 0, 3, 5], [-1, 0, 0, -7], [0, 1, 0, 3.0], [0, 0, 0, 1]])
    raw = GREY[..., None] if third_axis else GREY
    image = phantoms.write_nifti(tmp_path / "scan.nii.gz", raw, affine)
    out, document = tmp_path / "out.nii.gz", tmp_path / "out.json"
    options = [*bundle(unit="mm"), "-o", out, "--json", document]
    ended = veilseg("segment", image, *options)
    assert (ended.code, ended.errors) == (0, [])
    written = nib.load(out)
    assert written.shape == raw.shape
    np.testing.assert_array_equal(written.affine, affine)
    np.testing.assert_array_equal(np.asarray(written.dataobj).reshape(TRUTH.shape), TRUTH)
    shell, core = [float((value == TRUTH).sum()) for value in (1, 2)]
    assert ended.out == f"{out}: shell {shell:.2f} mm², core {core:.2f} mm²\n"
    (entry,) = json.loads(document.read_text())["images"]
    assert entry["areas_mm2"] == {"shell": shell, "core": core}


def test_the_real_server_takes_pictures(
    veilseg: Callable, start_server: Callable, bundle: Callable, tmp_path: Path
):
    folder = bundle(channels=3)[1]
    server = start_server(folder)
    image = phantoms.write_png(tmp_path / "scan.png", RGB)
    options = ["--bundle", folder, "--server", server.url, "-o", tmp_path / "out.png"]
    ended = veilseg("segment", image, *options)
    assert (ended.code, ended.errors) == (0, [])
    np.testing.assert_array_equal(phantoms.read_labels(tmp_path / "out.png"), TRUTH)


def test_a_folder_takes_each_in_its_own_format(veilseg: Callable, bundle: Callable, tmp_path: Path):
    images = [
        phantoms.write_png(tmp_path / "a_0000.png", GREY),
        phantoms.write_nifti(tmp_path / "b.nii", GREY, np.eye(4)),
    ]
    out = tmp_path / "out"
    ended = veilseg("segment", *images, *bundle(), "-o", out)
    assert ended.code == 0
    (warning,) = ended.errors
    assert "the bundle takes pixels as they are" in warning
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.nii.gz"]
    for path in out.iterdir():
        np.testing.assert_array_equal(phantoms.read_labels(path), TRUTH)


def test_the_result_ends_as_its_image(expect: Callable, bundle: Callable, tmp_path: Path):
    picture = phantoms.write_png(tmp_path / "scan.png", GREY)
    line = expect(2, picture, *bundle(), out=tmp_path / "out.nii.gz")
    assert line == f"{tmp_path / 'out.nii.gz'}: must end in .png, as labels of scan.png"
    slice_ = phantoms.write_nifti(tmp_path / "scan.nii", GREY)
    line = expect(2, slice_, *bundle(), out=tmp_path / "out.png")
    assert line.endswith("out.png: must end in .nii.gz or .nii, as labels of scan.nii")
    assert "--save-proxy must end in .nii" in expect(
        2, picture, *bundle(), "--save-proxy", tmp_path / "p.png", out=tmp_path / "out.png"
    )


def bad(expect: Callable, image: Path, options: list[object], reason: str) -> None:
    ending = ".png" if image.suffix == ".png" else ".nii.gz"
    line = expect(3, image, *options, out=image.with_name(f"out{ending}"))
    assert line.startswith(f"{image}: "), line
    assert reason in line


def save(path: Path, rows: np.ndarray) -> None:
    Image.fromarray(rows).save(path)


def transparent(path: Path) -> None:
    save(path, np.stack([GREY, GREY, GREY, GREY], axis=-1))


def truncated(path: Path) -> None:
    save(path, GREY)
    path.write_bytes(path.read_bytes()[:-30])


def colours_of_16_bits(path: Path) -> None:
    save(path, GREY)
    content = bytearray(path.read_bytes())
    content[24:26] = 16, 2
    path.write_bytes(content)


def announcing_too_much(path: Path) -> None:
    save(path, GREY)
    content = bytearray(path.read_bytes())
    content[16:24] = b"\x7f\xff\xff\xff" * 2
    path.write_bytes(content)


BAD_PICTURES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "no such file"),
    "text": (lambda path: path.write_text("Dear colleague, " * 40), "not a PNG image"),
    "truncated": (truncated, "damaged or truncated"),
    "constant": (lambda path: save(path, np.full((9, 9), 3, np.uint8)), "every voxel is 3"),
    "transparent": (transparent, "has transparent pixels"),
    "16-bit RGB": (colours_of_16_bits, "is a PNG of 16-bit RGB"),
    "palette": (
        lambda path: Image.fromarray(RGB.T).quantize(4).save(path),
        "palette; 8- or 16-bit grey or 8-bit RGB is expected",
    ),
    "too large": (announcing_too_much, "that fit into memory"),
    "RGB": (
        lambda path: phantoms.write_png(path, RGB),
        "has 3 channels; the bundle takes 1 (contrast 0)",
    ),
}


@pytest.mark.parametrize(("write", "reason"), BAD_PICTURES.values(), ids=BAD_PICTURES)
def test_bad_pictures(
    expect: Callable, bundle: Callable, tmp_path: Path, write: Callable, reason: str
):
    image = tmp_path / "bad.png"
    write(image)
    bad(expect, image, bundle(), reason)


def test_images_of_another_kind(expect: Callable, bundle: Callable, tmp_path: Path):
    picture = phantoms.write_png(tmp_path / "scan.png", GREY)
    slice_ = phantoms.write_nifti(tmp_path / "slice.nii", GREY)
    solid = phantoms.write_nifti(tmp_path / "solid.nii", phantoms.raw_image(phantoms.truth()))
    in_3d = bundle(spatial_dims=3, unit="mm")
    bad(expect, picture, in_3d, "is 2D; the bundle takes 3D images")
    bad(expect, slice_, in_3d, "is 2D; the bundle takes 3D images")
    bad(expect, solid, bundle(unit="mm"), "is 3D; the bundle takes 2D images")
    bad(expect, picture, bundle(unit="mm"), "does not say how large a pixel is")


@pytest.mark.parametrize("ending", [".png", ".nii.gz"])
def test_channels_that_do_not_fit(expect: Callable, bundle: Callable, tmp_path: Path, ending: str):
    write = phantoms.write_png if ending == ".png" else phantoms.write_nifti
    options = bundle(channels=3)
    out = tmp_path / f"out{ending}"
    alone = write(tmp_path / f"alone{ending}", GREY)
    bad(expect, alone, options, "the bundle takes 3 channels (contrast 0, contrast 1, contrast 2)")
    first = write(tmp_path / f"case_0000{ending}", GREY)
    second, third = (tmp_path / f"case_000{index}{ending}" for index in (1, 2))
    line = expect(3, first, *options, out=out)
    assert line.startswith(f"{second}: no such file: {first.name} holds one channel and the bundle")
    write(second, GREY)
    write(third, GREY[:, 1:])
    line = expect(3, first, *options, out=out)
    assert line.startswith(f"{third}: shape (15, 24) differs from (15, 25) of {first}")


def test_grey_files_are_channels_of_an_rgb_bundle(
    veilseg: Callable, bundle: Callable, tmp_path: Path
):
    first, *_ = [
        phantoms.write_png(tmp_path / f"c_000{index}.png", array) for index, array in enumerate(RGB)
    ]
    ended = veilseg("segment", first, *bundle(channels=3), "-o", tmp_path / "out.png")
    assert (ended.code, ended.errors) == (0, [])
    np.testing.assert_array_equal(phantoms.read_labels(tmp_path / "out.png"), TRUTH)


def test_references_of_pictures(veilseg: Callable, bundle: Callable, tmp_path: Path):
    folder = phantoms.make_dataset(tmp_path / "data", ())
    path = folder / "dataset.json"
    path.write_text(path.read_text().replace(".nii.gz", ".png"))
    for case in ("anna", "bert"):
        phantoms.write_png(folder / "imagesTr" / f"{case}_0000.png", GREY)
        phantoms.write_png(folder / "labelsTr" / f"{case}.png", TRUTH)
    (folder / "cases.csv").write_text("case,patient\nanna,anna\nbert,bert\n")
    _, made, _ = bundle("mixup", references=["labelled"])
    common = ["site", "init", tmp_path / "vault", "--bundle", made, "--references", folder]
    phantoms.write_png(folder / "labelsTr" / "bert.png", TRUTH[1:])
    ended = veilseg(*common)
    assert ended.code == 3
    assert "bert.png: shape (14, 25) differs from (15, 25) of " in ended.err
    phantoms.write_png(folder / "labelsTr" / "bert.png", TRUTH + 1)
    ended = veilseg(*common)
    assert ended.code == 3
    assert "bert.png: label 3 is not in dataset.json (0…2)" in ended.err
    phantoms.write_png(folder / "labelsTr" / "bert.png", TRUTH)
    ended = veilseg(*common)
    assert ended.code == 0
    assert "with 2 labelled references" in ended.out
    image = phantoms.write_png(tmp_path / "scan.png", np.flip(GREY, 0))
    options = [*bundle("mixup", references=["labelled"]), "--vault", tmp_path / "vault"]
    out = tmp_path / "out.png"
    assert veilseg("segment", image, *options, "--subject", "carl", "-o", out).code == 0
    assert phantoms.read_labels(out).shape == TRUTH.shape
