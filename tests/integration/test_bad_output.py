"""``veilseg segment`` of several images, or to where nothing can go."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import phantoms
import pytest

RAW = phantoms.raw_image(phantoms.truth())


def test_outputs(expect: Callable, local: list[object], image: Path, tmp_path: Path):
    missing = tmp_path / "none" / "out.nii.gz"
    assert "does not exist" in expect(3, image, *local, out=missing)
    folder = tmp_path / "folder.nii.gz"
    folder.mkdir()
    assert expect(3, image, *local, out=folder) == f"{folder}: is a folder"
    assert "would overwrite the image itself" in expect(3, image, *local, out=image)
    assert "would overwrite the image itself" in expect(3, image, *local, "--save-proxy", image)
    assert "would overwrite the image itself" in expect(3, image, *local, "--json", image)
    out = tmp_path / "out.nii.gz"
    assert "overwrite each other" in expect(3, image, *local, "--save-proxy", out)
    assert "does not exist" in expect(3, image, *local, "--json", tmp_path / "none" / "x.json")
    file = tmp_path / "file"
    file.write_text("mine")
    assert f"{file}: cannot be made" in expect(3, image, *local, out=file)
    assert file.read_text() == "mine"
    # A folder of another device that takes no files, not even of the superuser.
    if Path("/proc/self").is_dir():
        line = expect(3, image, *local, out=Path("/proc/self/out.nii.gz"))
        assert line.startswith("/proc/self/out.nii.gz: cannot be written")


def test_another_channel_is_not_overwritten(expect: Callable, tmp_path: Path):
    bundle = phantoms.make_bundle(tmp_path / "two", "plain", channels=2)
    first, second = [
        phantoms.write_nifti(tmp_path / f"case_000{index}.nii.gz", RAW) for index in (0, 1)
    ]
    before = second.read_bytes()
    line = expect(3, first, "--bundle", bundle, "--local", out=second)
    assert "would overwrite the image itself" in line
    assert second.read_bytes() == before


def test_two_images_of_one_name(expect: Callable, local: list[object], image: Path, tmp_path: Path):
    (tmp_path / "other").mkdir()
    twin = shutil.copy(image, tmp_path / "other" / image.name)
    line = expect(3, image, twin, *local, out=tmp_path / "out")
    assert line == "two images have the same name: their results would overwrite each other"


def test_one_of_several_is_bad(
    veilseg: Callable, listing: Callable, plain_bundle: Path, tmp_path: Path, labels: np.ndarray
):
    good, last = [
        phantoms.write_nifti(tmp_path / f"{name}.nii.gz", phantoms.raw_image(labels))
        for name in ("a", "c")
    ]
    bad, out, document = tmp_path / "b.nii.gz", tmp_path / "out", tmp_path / "out.json"
    before = listing()
    options = ["--bundle", plain_bundle, "--local", "-o", out, "--json", document]
    ended = veilseg("segment", good, bad, last, *options)
    assert ended.code == 3
    assert ended.errors == [
        f"veilseg: {bad}: no such file",
        "veilseg: 1 of 3 images failed, see above",
    ]
    assert listing() - before == {"out.json", "out/a.nii.gz", "out/c.nii.gz"}
    entries = json.loads(document.read_text())["images"]
    assert [entry["image"] for entry in entries] == [str(good), str(last)]
    np.testing.assert_array_equal(phantoms.read_labels(out / "c.nii.gz"), labels)


def test_debug_shows_the_trace(
    veilseg: Callable, local: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(Exception, match=r"none\.nii: no such file"):
        veilseg("--debug", "segment", tmp_path / "none.nii", *local, "-o", tmp_path / "x.nii")


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".png"])
def test_an_output_that_fails_late_leaves_the_old_one(
    veilseg: Callable,
    tmp_path: Path,
    listing: Callable,
    monkeypatch: pytest.MonkeyPatch,
    ending: str,
):
    kind = {"spatial_dims": 2, "unit": "pixel"} if ending == ".png" else {}
    bundle = phantoms.make_bundle(tmp_path / "bundle", "plain", **kind)
    if ending == ".png":
        raw = phantoms.raw_image(phantoms.truth((14, 12))).astype(np.uint16)
        image = phantoms.write_png(tmp_path / "scan.png", raw)
    else:
        image = phantoms.write_nifti(tmp_path / "scan.nii", RAW)
    out = tmp_path / f"out{ending}"
    out.write_bytes(b"the last result")
    before = listing()

    def full(path: Path, content: bytes) -> int:
        with path.open("wb") as stream:
            stream.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    ended = veilseg("segment", image, "--bundle", bundle, "--local", "-o", out)
    assert ended.code == 3
    assert ended.errors == [f"veilseg: {image}: {out}: cannot be written: No space left on device"]
    assert out.read_bytes() == b"the last result"
    assert listing() == before
