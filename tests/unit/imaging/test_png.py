"""What a PNG holds is read to the bit, or the file is refused with its name and the reason."""

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from veilseg.errors import GeometryMismatch, InvalidImage, OutputNotWritable
from veilseg.imaging import png
from veilseg.imaging.volume import Geometry, LabelMap

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7)).astype(np.uint8)  # 5 rows, 7 columns
COLOURS = np.random.default_rng(1).integers(0, 256, (5, 7, 3)).astype(np.uint8)


def chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def raw_png(path: Path, width: int, height: int, bits: int, colour: int, rows: bytes) -> Path:
    """A PNG by the letter of its specification, of kinds that Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = [
        chunk(b"IHDR", header),
        chunk(b"IDAT", zlib.compress(rows)),
        chunk(b"IEND", b""),
    ]
    path.write_bytes(png.SIGNATURE + b"".join(parts))
    return path


def saved(path: Path, array: np.ndarray, **options: object) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.png"


def refused(path, reason, error=InvalidImage):
    with pytest.raises(error, match=reason) as caught:
        png.read_image([path])
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_is_read_with_x_along_the_columns(path, dtype):
    rows = PIXELS.astype(dtype) * (257 if dtype == np.uint16 else 1)
    volume = png.read_image([saved(path, rows)])
    np.testing.assert_array_equal(volume.array, rows.T[None])
    assert volume.array.dtype == np.float32
    assert volume.geometry.shape == (7, 5)
    assert volume.geometry.unit == "pixel"
    assert volume.geometry.spacing_mm == (1, 1)
    assert png.read_header(path)[0] == 1
    assert png.read_header(path)[1].shape == (7, 5)


def test_rgb_is_three_channels_of_one_file(path):
    volume = png.read_image([saved(path, COLOURS)])
    np.testing.assert_array_equal(volume.array, COLOURS.transpose(2, 1, 0))
    assert png.read_header(path)[0] == 3


def test_grey_files_are_channels_in_order(tmp_path):
    files = [saved(tmp_path / f"{i}.png", COLOURS[..., i]) for i in range(3)]
    np.testing.assert_array_equal(png.read_image(files).array, COLOURS.transpose(2, 1, 0))


def test_one_bit_is_zero_and_one(path):
    volume = png.read_image([saved(path, PIXELS > 127)])
    np.testing.assert_array_equal(volume.array[0], (PIXELS > 127).T)


@pytest.mark.parametrize("colour", [True, False])
def test_opaque_alpha_is_left_out(path, colour):
    values = COLOURS if colour else PIXELS[..., None]
    opaque = np.full((5, 7, 1), 255, np.uint8)
    saved(path, np.concatenate([values, opaque], axis=-1))
    np.testing.assert_array_equal(png.read_image([path]).array, values.transpose(2, 1, 0))
    assert png.read_header(path)[0] == values.shape[-1]


@pytest.mark.parametrize("colour", [True, False])
def test_transparent_pixels(path, colour):
    alpha = np.full((5, 7, 1), 255, np.uint8)
    alpha[2, 3] = 254
    values = COLOURS if colour else PIXELS[..., None]
    saved(path, np.concatenate([values, alpha], axis=-1))
    refused(path, "has transparent pixels")


def test_transparent_colour(path):
    refused(saved(path, PIXELS, transparency=7), "declares a transparent colour")


def test_palette(path):
    Image.fromarray(COLOURS).quantize(8).save(path)
    refused(path, r"PNG of \d-bit palette; 8- or 16-bit grey or 8-bit RGB is expected")


def test_16_bit_rgb(path):
    rows = b"".join(b"\0" + bytes(range(12)) for _ in range(3))
    refused(raw_png(path, 2, 3, 16, 2, rows), "PNG of 16-bit RGB")


def test_4_bit_grey(path):
    refused(raw_png(path, 2, 2, 4, 0, b"\0\x12\0\x34"), "PNG of 4-bit grey")


def test_colour_type_that_there_is_not(path):
    refused(raw_png(path, 2, 2, 8, 5, b"\0\x12\0\x34"), "PNG of 8-bit colour type 5")


def test_animation(path):
    first, second = Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)
    first.save(path, save_all=True, append_images=[second])
    refused(path, "is animated")


def test_constant(path):
    refused(saved(path, np.full((4, 4), 9, np.uint8)), "is constant: every voxel is 9")


def test_missing_file_folder_and_text(tmp_path):
    refused(tmp_path / "absent.png", "no such file")
    refused(tmp_path, "not a file")
    text = tmp_path / "note.png"
    for content in ("", "Dear colleague, please find the image attached. " * 20):
        text.write_text(content)
        refused(text, "not a PNG image")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_truncated(path, share):
    content = saved(path, np.random.default_rng(0).integers(0, 255, (60, 50)).astype(np.uint8))
    whole = content.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    refused(path, "damaged or truncated")


def test_damage_anywhere_is_seen(path):
    whole = saved(path, PIXELS).read_bytes()
    for place in range(len(png.SIGNATURE) + 8, len(whole) - 12, 3):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(InvalidImage) as caught:
            png.read_image([path])
        assert str(path) in str(caught.value)


def test_files_of_different_size(tmp_path):
    files = [saved(tmp_path / "a.png", PIXELS), saved(tmp_path / "b.png", PIXELS[1:])]
    with pytest.raises(GeometryMismatch, match=r"b.png: shape \(7, 4\) differs from \(7, 5\)"):
        png.read_image(files)


@pytest.mark.parametrize("size", [(2**31 - 1, 2**31 - 1), (100_000, 50_000)])
def test_more_pixels_than_memory_are_refused_by_the_header(path, size):
    refused(raw_png(path, *size, 8, 0, b""), r"announces [\d,]+ voxels, more than the")


def test_decompression_bombs_are_refused(path, monkeypatch):
    saved(path, PIXELS)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refused(path, "announces 35 pixels, more than the 30 that Pillow deems safe")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert png.read_image([path]).array.shape == (1, 7, 5)


def test_labels_are_grey_values(path):
    labels = png.read_label_map(saved(path, PIXELS))
    np.testing.assert_array_equal(labels.array, PIXELS.T)
    assert labels.array.dtype == np.uint8
    assert not png.read_label_map(saved(path, np.zeros((3, 4), np.uint8))).array.any()
    with pytest.raises(InvalidImage, match=r"x.png: labels must have one channel, not 3"):
        png.read_label_map(saved(path, COLOURS))
    with pytest.raises(InvalidImage, match=r"x.png: labels must be integers in 0…255"):
        png.read_label_map(saved(path, np.full((3, 4), 256, np.uint16)))


@pytest.fixture
def labels():
    return LabelMap(np.ascontiguousarray(PIXELS.T), Geometry((7, 5), np.eye(4), "pixel"))


def test_labels_come_back_as_written(tmp_path, path, labels):
    png.write_label_map(path, labels)
    with Image.open(path) as image:
        assert (image.mode, image.size) == ("L", (7, 5))
        np.testing.assert_array_equal(np.asarray(image), PIXELS)
    np.testing.assert_array_equal(png.read_label_map(path).array, labels.array)
    assert [file.name for file in tmp_path.iterdir()] == ["x.png"]


def test_output_that_png_cannot_be(tmp_path, path, labels):
    with pytest.raises(OutputNotWritable, match=r"the name must end in \.png"):
        png.write_label_map(tmp_path / "x.nii.gz", labels)
    solid = LabelMap(np.zeros((2, 2, 2), np.uint8), Geometry((2, 2, 2), np.eye(4)))
    with pytest.raises(OutputNotWritable, match="a PNG holds no 3D"):
        png.write_label_map(path, solid)
    assert list(tmp_path.iterdir()) == []


def test_full_disk_leaves_the_old_result(tmp_path, path, labels, disk_full):
    png.write_label_map(path, labels)
    before = path.read_bytes()
    disk_full()
    with pytest.raises(OutputNotWritable, match="No space left on device") as caught:
        png.write_label_map(path, labels)
    assert str(caught.value).startswith(f"{path}: cannot be written")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["x.png"]
