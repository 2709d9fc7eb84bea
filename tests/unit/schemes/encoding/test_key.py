"""The consortium's key: private on disk, the same basis everywhere, undone by its owner alone."""

import os
import pickle
import sys

import numpy as np
import pytest

from veilseg.errors import InvalidInput, InvalidVault, MissingDependency, OutputNotWritable
from veilseg.schemes.encoding.key import ConsortiumKey
from veilseg.schemes.encoding.sequence import Layout

LAYOUT = Layout.of((16, 16, 16), (8, 16))
FIRST = [0.277384, 0.580879, 0.202886]


@pytest.fixture
def key() -> ConsortiumKey:
    return ConsortiumKey(bytes(range(32)))


@pytest.fixture
def encodings() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((3, LAYOUT.values)).astype(np.float32)


def test_what_is_keyed_is_reverted(key, encodings):
    transform = key.transform(LAYOUT, "image")
    keyed = transform.apply(encodings)
    assert np.abs(keyed - encodings).mean() > 0.5
    np.testing.assert_allclose(transform.revert(keyed), encodings, atol=1e-5)


def test_basis_is_orthogonal_and_keeps_distances(key, encodings):
    transform = key.transform(LAYOUT, "mask")
    for basis in transform.bases:
        np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-5)
    before, after = (
        np.linalg.norm(given[0] - given[1]) for given in (encodings, transform.apply(encodings))
    )
    assert after == pytest.approx(before, rel=1e-5)  # the known limit: similar stays similar


def test_key_gives_the_same_basis_for_ever(key):
    """The first values of a basis, written down: an upgrade must not change them."""
    basis = key.transform(LAYOUT, "image").bases[0]
    assert basis[0, :3].tolist() == pytest.approx(FIRST, abs=1e-6)


@pytest.mark.parametrize("other", [ConsortiumKey(bytes(32)), None])
def test_other_keys_and_other_purposes_have_other_bases(key, other, encodings):
    mine = key.transform(LAYOUT, "image")
    theirs = (other or key).transform(LAYOUT, "image" if other else "mask")
    assert np.abs(theirs.revert(mine.apply(encodings)) - encodings).mean() > 0.5


def test_new_keys_differ_and_have_fingerprints():
    first, second = ConsortiumKey.new(), ConsortiumKey.new()
    assert first.secret != second.secret
    assert first.fingerprint() != second.fingerprint()
    assert first.fingerprint() == ConsortiumKey(first.secret).fingerprint()
    assert first.secret.hex() not in first.fingerprint()


def test_key_file_is_private_and_read_again(key, tmp_path):
    path = tmp_path / "consortium.key"
    key.write(path)
    assert ConsortiumKey.read(path) == key
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(OutputNotWritable, match="never overwritten"):
        key.write(path)


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_key_file_open_to_others_is_refused(key, tmp_path):
    path = tmp_path / "consortium.key"
    key.write(path)
    path.chmod(0o640)
    with pytest.raises(InvalidVault, match="open to others"):
        ConsortiumKey.read(path)


@pytest.mark.parametrize("text", ["", "hello\n", "veilseg consortium key 1\nabcd\n", "é" * 40])
def test_what_is_no_key_is_refused(tmp_path, text):
    path = tmp_path / "consortium.key"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    with pytest.raises(InvalidInput, match="not a consortium key"):
        ConsortiumKey.read(path)
    with pytest.raises(InvalidInput, match="veilseg key new"):
        ConsortiumKey.read(tmp_path / "none")


def test_site_without_the_library_for_keys_is_told(key, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(MissingDependency, match=r"pip install 'veilseg\[key\]'"):
        key.transform(LAYOUT, "image")


def test_key_is_neither_printed_nor_pickled(key):
    transform = key.transform(LAYOUT, "image")
    assert "redacted" in repr(key)
    assert str(key.secret) not in repr(transform)
    with pytest.raises(TypeError, match="never leaves the sites"):
        pickle.dumps(key)
