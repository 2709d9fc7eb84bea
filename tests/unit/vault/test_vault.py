"""Making and opening vaults: private, whole or not at all, and nobody else's."""

import copy
import pickle
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from veilseg.errors import InvalidVault, OutputNotWritable, VaultIntegrity
from veilseg.vault.vault import KEY_BYTES, LabelledReference, Vault

BUNDLE = "b" * 64
Make = Callable[..., list[LabelledReference]]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_made_is_private(tmp_path: Path, make_references: Make):
    folder = tmp_path / "vault"
    Vault.create(folder, BUNDLE, make_references("anna", "bert"))
    assert [path.name for path in tmp_path.iterdir()] == ["vault"]
    assert mode(folder) == 0o700
    assert mode(folder / "references") == 0o700
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sorted(path.name for path in files) == ["0000.npz", "0001.npz", "key", "vault.sqlite"]
    assert {mode(path) for path in files} == {0o600}
    assert (folder / "key").stat().st_size == KEY_BYTES == 32


def test_each_vault_has_a_key_of_its_own(tmp_path: Path):
    for name in ("one", "two"):
        Vault.create(tmp_path / name, BUNDLE)
    assert (tmp_path / "one" / "key").read_bytes() != (tmp_path / "two" / "key").read_bytes()


def test_an_empty_folder_and_the_current_one_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    place = tmp_path / "empty"
    place.mkdir(mode=0o755)
    monkeypatch.chdir(place)
    Vault.create(Path(), BUNDLE)
    assert mode(place) == 0o700
    Vault.open(place, BUNDLE).__exit__()


def test_references_come_back(tmp_path: Path, make_references: Make):
    Vault.create(tmp_path / "vault", BUNDLE, make_references("anna"))
    with Vault.open(tmp_path / "vault", BUNDLE) as vault:
        found = vault.draw_reference(np.random.default_rng(0), "bert")
    assert found is not None
    # 1/64 is exact in the FP16 in which references are kept.
    np.testing.assert_array_equal(found.image, np.full((1, 4, 3, 2), 1 / 64, dtype=np.float32))
    assert found.image.dtype == np.float32
    assert found.labels.dtype == np.uint8
    # Who it is of is not stored, only a pseudonym.
    assert found.patient == ""


def test_what_exists_is_not_replaced(folder: Path, tmp_path: Path):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(InvalidVault, match="vault: exists already and is not empty"):
        Vault.create(folder, BUNDLE)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(InvalidVault, match="file: exists already"):
        Vault.create(file, BUNDLE)
    assert file.read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"vault", "file"}


def test_a_folder_that_cannot_be_made(tmp_path: Path):
    with pytest.raises(OutputNotWritable, match="No such file or directory"):
        Vault.create(tmp_path / "missing" / "vault", BUNDLE)
    (tmp_path / "file").touch()
    with pytest.raises(OutputNotWritable, match="Not a directory"):
        Vault.create(tmp_path / "file" / "vault", BUNDLE)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_creation_that_fails_leaves_nothing(
    tmp_path: Path, make_references: Make, monkeypatch: pytest.MonkeyPatch, error: BaseException
):
    def full(*arguments: object, **named: object) -> None:
        raise error

    monkeypatch.setattr(np, "savez_compressed", full)
    expected = OutputNotWritable if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        Vault.create(tmp_path / "vault", BUNDLE, make_references("anna"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "opened", "fix"),
    [(".", 0o755, "chmod 700"), ("key", 0o644, "chmod 600"), ("vault.sqlite", 0o640, "chmod 600")],
)
def test_open_to_others(folder: Path, name: str, opened: int, fix: str):
    path = folder / name
    path.chmod(opened)
    with pytest.raises(InvalidVault, match=rf"open to others \(mode {opened:o}\).*: {fix} it"):
        Vault.open(folder, BUNDLE)
    path.chmod(int(fix.split()[1], 8))
    Vault.open(folder, BUNDLE).__exit__()


def test_missing(tmp_path: Path):
    with pytest.raises(InvalidVault, match="no such vault; make one with: veilseg site init"):
        Vault.open(tmp_path / "none", BUNDLE)


def test_of_another_bundle(folder: Path):
    with pytest.raises(VaultIntegrity, match="belongs to bundle bbbbbbbbbbbb, not to cccccccccccc"):
        Vault.open(folder, "c" * 64)
    # The ledger alone does not ask.
    Vault.open(folder, None).__exit__()


@pytest.mark.parametrize("content", [b"", bytes(31), bytes(32), bytes(33)])
def test_another_key(folder: Path, content: bytes):
    (folder / "key").write_bytes(content)
    with pytest.raises(VaultIntegrity, match="key: damaged: not the key this vault was made with"):
        Vault.open(folder, BUNDLE)


@pytest.mark.parametrize("name", ["key", "vault.sqlite"])
def test_a_file_is_gone(folder: Path, name: str):
    (folder / name).unlink()
    with pytest.raises(VaultIntegrity, match=f"{name}: missing: the vault is damaged"):
        Vault.open(folder, BUNDLE)
    # Opening must not have made a new one in its place.
    assert not (folder / name).exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"garbage" * 1000, "damaged: file is not a database"), (b"", "format None is not 1")],
)
def test_another_database(folder: Path, content: bytes, reason: str):
    (folder / "vault.sqlite").write_bytes(content)
    with pytest.raises(VaultIntegrity, match=reason):
        Vault.open(folder, BUNDLE)


def test_a_database_damaged_in_the_middle(folder: Path):
    with Vault.open(folder, BUNDLE) as vault:
        vault.record("anna", "digest", allow_repeat=False)
    database = folder / "vault.sqlite"
    content = bytearray(database.read_bytes())
    content[100:] = b"\xff" * (len(content) - 100)
    database.write_bytes(content)
    with pytest.raises(VaultIntegrity, match=r"vault\.sqlite: damaged"):
        Vault.open(folder, BUNDLE)


def test_the_key_file_is_a_folder(folder: Path):
    (folder / "key").unlink()
    (folder / "key").mkdir(mode=0o700)
    with pytest.raises(InvalidVault, match="cannot be read: Is a directory"):
        Vault.open(folder, BUNDLE)


@pytest.mark.parametrize("damage", ["altered", "truncated", "gone"])
def test_a_reference_is_damaged(tmp_path: Path, make_references: Make, damage: str):
    Vault.create(tmp_path / "vault", BUNDLE, make_references("anna"))
    file = tmp_path / "vault" / "references" / "0000.npz"
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(content[:-9] if damage == "truncated" else content[:-1] + b"!")
    reason = "No such file" if damage == "gone" else "SHA-256 differs from the vault's record"
    with (
        Vault.open(tmp_path / "vault", BUNDLE) as vault,
        pytest.raises(VaultIntegrity, match=rf"0000\.npz: damaged: {reason}"),
    ):
        vault.draw_reference(np.random.default_rng(0), "bert")


def test_a_vault_tells_nothing_of_itself(folder: Path):
    with Vault.open(folder, BUNDLE) as vault:
        assert repr(vault) == str(vault) == "<Vault: redacted>"
        for copied in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="never leaves the site"):
                copied(vault)


def test_a_vault_can_be_moved(folder: Path, tmp_path: Path):
    with Vault.open(folder, BUNDLE) as vault:
        before = vault.generator("x").random()
    moved = tmp_path / "elsewhere"
    shutil.move(folder, moved)
    with Vault.open(moved, BUNDLE) as vault:
        assert vault.generator("x").random() == before
