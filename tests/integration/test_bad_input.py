"""``veilseg segment`` of what cannot be used: one line, the right code, nothing left behind."""

import gzip
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import phantoms
import pytest
from servers import OracleServer

from veilseg.bundle import open_client_half
from veilseg.vault.vault import Vault

RAW = phantoms.raw_image(phantoms.truth())


def as_file(array: np.ndarray, affine: np.ndarray = phantoms.TURNED) -> Callable[[Path], None]:
    return lambda path: phantoms.write_nifti(path, array, affine) and None


def truncated(path: Path) -> None:
    phantoms.write_nifti(path, RAW)
    path.write_bytes(path.read_bytes()[:-200])


def spoilt_checksum(path: Path) -> None:
    phantoms.write_nifti(path, RAW)
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF
    path.write_bytes(content)


def announcing_too_much(path: Path) -> None:
    phantoms.write_nifti(path, RAW)
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[42:48] = struct.pack("<3h", 32000, 32000, 32000)
    path.write_bytes(gzip.compress(content))


def with_nan() -> np.ndarray:
    array = RAW.astype(np.float32)
    array[3, 4, 5] = np.nan
    return array


FLAT = np.diag([1.0, 1, 0, 1])

BAD_IMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "no such file"),
    "a folder": (lambda path: path.mkdir(), "not a file"),
    "no image": (lambda path: path.write_bytes(gzip.compress(b"hello" * 200)), "not a NIfTI image"),
    "not compressed": (lambda path: path.write_bytes(b"hello" * 200), "not a NIfTI image"),
    "empty": (lambda path: path.write_bytes(b""), "not a NIfTI image"),
    "truncated": (truncated, "damaged or truncated"),
    "checksum": (spoilt_checksum, "damaged or truncated"),
    "NaN": (as_file(with_nan()), "holds NaN or infinite intensities"),
    "constant": (as_file(np.ones_like(RAW)), "is constant: every voxel is 1"),
    "4D": (as_file(np.stack([RAW, RAW], axis=-1)), "is 4D of shape (14, 12, 13, 2)"),
    "2D": (as_file(RAW[..., 6]), "is 2D; the bundle takes 3D images"),
    "one slice": (as_file(RAW[..., 6:7]), "is 2D; the bundle takes 3D images"),
    "too large": (announcing_too_much, "that fit into memory"),
    "singular": (as_file(RAW, FLAT), "affine: singular"),
    "below the window": (as_file(-RAW), "intensity: no voxel is left above the lower bound"),
}


@pytest.mark.parametrize(("write", "reason"), BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_bad_images(
    expect: Callable,
    remote: list[object],
    oracle: OracleServer,
    tmp_path: Path,
    write: Callable,
    reason: str,
):
    image = tmp_path / "bad.nii.gz"
    write(image)
    line = expect(3, image, *remote)
    assert line.startswith(f"{image}: ")
    assert reason in line
    assert oracle.tiles == []


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles of other kinds than one volume."""
    folder = tmp_path_factory.mktemp("kinds")
    return {
        "two channels": phantoms.make_bundle(folder / "two", "plain", channels=2),
        "plane": phantoms.make_bundle(folder / "plane", "plain", spatial_dims=2),
    }


def refused_and_not_sent(expect: Callable, bundle: Path, first: Path, named: Path) -> str:
    """The one line, which names the file; the server gets nothing."""
    with OracleServer(open_client_half(bundle).manifest) as server:
        line = expect(3, first, "--bundle", bundle, "--server", server.url)
        assert server.tiles == []
    assert line.startswith(f"{named}: ")
    return line.removeprefix(f"{named}: ")


# What is as bad in a second channel, and what that alone can be.
BAD_CHANNELS = {
    **{
        name: BAD_IMAGES[name]
        for name in ("missing", "no image", "truncated", "checksum", "NaN", "constant", "too large")
    },
    "elsewhere": (as_file(RAW, phantoms.TURNED @ np.diag([1, 1, 1.5, 1])), "mm off the grid of"),
    "other size": (as_file(RAW[1:]), "shape (13, 12, 13) differs from"),
}


@pytest.mark.parametrize(("write", "reason"), BAD_CHANNELS.values(), ids=BAD_CHANNELS)
def test_bad_second_channel(
    expect: Callable, kinds: dict[str, Path], tmp_path: Path, write: Callable, reason: str
):
    first = phantoms.write_nifti(tmp_path / "scan_0000.nii.gz", RAW)
    second = tmp_path / "scan_0001.nii.gz"
    write(second)
    assert reason in refused_and_not_sent(expect, kinds["two channels"], first, second)


SLICE = RAW[..., 6]
BAD_SLICES: dict[str, tuple[Callable[[Path], object], str]] = {
    **{name: BAD_IMAGES[name] for name in ("missing", "no image", "empty", "4D", "too large")},
    "NaN": (as_file(with_nan()[..., 5]), "holds NaN or infinite intensities"),
    "constant": (as_file(np.ones_like(SLICE)), "is constant: every voxel is 1"),
    "singular": (as_file(SLICE, np.diag([1.0, 0, 1, 1])), "affine: singular"),
    "on one line": (
        as_file(SLICE, np.array([[1.0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])),
        "affine: singular (voxel axes lie on one line)",
    ),
    "3D": (as_file(RAW), "is 3D; the bundle takes 2D images"),
    "below the window": (as_file(-SLICE), "intensity: no voxel is left above the lower bound"),
}


@pytest.mark.parametrize(("write", "reason"), BAD_SLICES.values(), ids=BAD_SLICES)
def test_bad_slices(
    expect: Callable, kinds: dict[str, Path], tmp_path: Path, write: Callable, reason: str
):
    image = tmp_path / "bad.nii.gz"
    write(image)
    assert reason in refused_and_not_sent(expect, kinds["plane"], image, image)


def test_more_voxels_on_the_bundles_grid_than_fit(
    expect: Callable, remote: list[object], oracle: OracleServer, tmp_path: Path
):
    # A header that states metres for millimetres: 10¹³ voxels at the bundle's spacing.
    image = phantoms.write_nifti(tmp_path / "huge.nii.gz", RAW, phantoms.TURNED * 1e4)
    line = expect(3, image, *remote)
    assert line.startswith(f"{image}: at the bundle's spacing: would have ")
    assert oracle.tiles == []


def test_wrong_number_of_channels(expect: Callable, tmp_path: Path, image: Path):
    bundle = phantoms.make_bundle(tmp_path / "two", "plain", channels=2)
    options = ["--bundle", bundle, "--local"]
    assert f"{image}: the bundle takes 2 channels" in expect(3, image, *options)
    first = phantoms.write_nifti(tmp_path / "case_0000.nii.gz", RAW)
    second = tmp_path / "case_0001.nii.gz"
    line = expect(3, first, *options)
    assert line.startswith(f"{second}: no such file: case_0000.nii.gz holds one channel and ")
    phantoms.write_nifti(second, RAW[1:])
    assert "shape (13, 12, 13) differs" in expect(3, first, *options)


def altered(folder: Path, name: str, edit: Callable[[bytes], bytes]) -> None:
    (folder / name).write_bytes(edit((folder / name).read_bytes()))


def newer(content: bytes) -> bytes:
    return json.dumps({**json.loads(content), "format_version": 2}).encode()


def renamed(content: bytes) -> bytes:
    return json.dumps({**json.loads(content), "licence": "mine"}).encode()


@pytest.mark.parametrize(
    ("name", "edit", "reason"),
    [
        ("client/unmixer.onnx", lambda c: c[:-1] + b"!", "SHA-256 differs from the manifest"),
        ("client/template.npz", lambda c: c[:-1], "SHA-256 differs from the manifest"),
        ("client/manifest.json", newer, "format_version: 2 is not the 1 this version reads"),
        ("client/manifest.json", renamed, "bundle_id: the manifest was changed after"),
        ("client/manifest.json", lambda c: c[:-20], "not a bundle manifest"),
        ("server/manifest.json", newer, "format_version: 2 is not the 1 this version reads"),
        ("server/selftest/tile.npz", lambda c: c + b"!", "SHA-256 differs from the manifest"),
    ],
)
def test_altered_bundles(
    expect: Callable,
    mixup_bundle: Path,
    image: Path,
    tmp_path: Path,
    name: str,
    edit: Callable,
    reason: str,
):
    bundle = shutil.copytree(mixup_bundle, tmp_path / "altered")
    altered(bundle, name, edit)
    line = expect(5, image, "--bundle", bundle, "--local")
    assert line.startswith(f"{bundle / name}: ")
    assert reason in line


@pytest.mark.parametrize("role", ["client", "server"])
def test_a_missing_half(
    expect: Callable, mixup_bundle: Path, image: Path, tmp_path: Path, role: str
):
    bundle = shutil.copytree(mixup_bundle, tmp_path / "half")
    shutil.rmtree(bundle / role)
    line = expect(3, image, "--bundle", bundle, "--local")
    assert line == f"{bundle}: no {role} half: {role}/manifest.json is missing"


def test_a_site_needs_no_server_half(
    veilseg: Callable,
    oracle: OracleServer,
    mixup_bundle: Path,
    vault: Path,
    image: Path,
    tmp_path: Path,
):
    bundle = shutil.copytree(mixup_bundle, tmp_path / "half")
    shutil.rmtree(bundle / "server")
    oracle.behaviour = phantoms.nearest_centre
    options = ["--bundle", bundle, "--vault", vault, "--server", oracle.url]
    assert veilseg("segment", image, *options, "-o", tmp_path / "out.nii.gz").code == 0


def test_vaults(
    expect: Callable,
    remote: list[object],
    oracle: OracleServer,
    mixup_bundle: Path,
    vault: Path,
    image: Path,
    tmp_path: Path,
):
    (vault / "key").chmod(0o644)
    assert f"{vault / 'key'}: open to others (mode 644)" in expect(3, image, *remote)
    (vault / "key").chmod(0o600)
    (vault / "vault.sqlite").write_bytes(b"garbage" * 999)
    assert f"{vault / 'vault.sqlite'}: damaged" in expect(5, image, *remote)
    stranger = tmp_path / "vault-of-another"
    Vault.create(stranger, "c" * 64)
    others = ["--bundle", mixup_bundle, "--server", oracle.url, "--vault"]
    line = expect(5, image, *others, stranger)
    assert line.startswith(f"{stranger}: belongs to bundle cccccccccccc, not to ")
    none = tmp_path / "none"
    assert expect(3, image, *others, none).startswith(f"{none}: no such vault; make one with")
    assert oracle.tiles == []


def test_usage(
    expect: Callable, local: list[object], mixup_bundle: Path, image: Path, oracle: OracleServer
):
    server = ["--bundle", mixup_bundle, "--server", oracle.url]
    for arguments, reason in (
        ([*local, "--server", oracle.url], "either --server URL or --local"),
        (["--bundle", mixup_bundle], "either --server URL or --local"),
        ([*local, "--unmixing", "magic"], "--unmixing magic: choose learned or algebraic"),
        ([*local, image, "--subject", "x"], "--subject: names one image"),
        ([*local, image, "--save-proxy", "x.nii"], "--save-proxy: takes one image"),
        ([*local, image], "several images need a folder, not a file"),
        ([*local, "--save-proxy", "x.png"], "--save-proxy must end in .nii.gz or .nii"),
        (server, "--vault: phantom-mixup needs one; make it with: veilseg site init"),
    ):
        assert reason in expect(2, image, *arguments)


def test_usage_that_typer_tells(veilseg: Callable, image: Path):
    for arguments in (["segment", image], ["segment", "--wrong"], ["nonsense"]):
        ended = veilseg(*arguments)
        assert ended.code == 2
        assert "Traceback" not in ended.err
