"""The proxy of one image under one key, pinned: the same image must meet the same mask for years.

A library upgrade that changes a filter or a random stream changes every proxy. Nothing would
fail, but each subject that comes back would be a repeat, and the ledger would refuse it.
"""

import hashlib
from dataclasses import replace

import numpy as np
import phantoms
import pytest

from veilseg.bundle import ClientBundle, open_client_half
from veilseg.payload import Float32Array
from veilseg.schemes.mixup.client import MixupClient
from veilseg.vault.vault import LabelledReference, Vault

KEY = bytes(range(3, 35))
# Coarser than FP16 on the wire (2**-11 below 1), so that the last bits of another processor's
# arithmetic do not count; a changed law moves voxels by hundredths at least.
PRECISION = 64
# A voxel nearer than this to a rounding tie would make the digest a matter of luck.
CLEARANCE = 5e-7

SYNTHETIC = "49894b66af44a8eb5e6e6536cbdb4cf9f94ee05175c8aa323a7c2fead0e5d4d9"
LABELLED = "021f460cfc2d67a67cf54604617861dd394b2cc4775e16e9ac9a5256a42af5bd"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ClientBundle:
    """A bundle whose id depends on nothing but this line: the PRF takes it as context."""
    made = open_client_half(phantoms.make_bundle(tmp_path_factory.mktemp("golden"), "mixup"))
    return ClientBundle(made.folder, replace(made.manifest, bundle_id="9" * 64))


def image() -> Float32Array:
    """A phantom whose texture is arithmetic, not drawn."""
    labels = phantoms.truth(phantoms.TILE)
    texture = (np.arange(labels.size).reshape(labels.shape) * 7919 % 101 - 50) / 1000
    values = np.array(phantoms.CENTRES)[labels] + np.where(labels > 0, texture, 0)
    return values[None].astype(np.float32)


def digest(bundle: ClientBundle, references: list[LabelledReference]) -> str:
    proxy, _ = MixupClient(bundle, Vault.in_memory(KEY, references)).protect(image(), "anna")
    scaled = proxy.array.astype(np.float64) * PRECISION
    ties = np.abs(scaled - np.floor(scaled) - 0.5) / PRECISION
    assert ties.min() > CLEARANCE
    rounded = (np.round(scaled) / PRECISION).astype("<f2")
    return hashlib.sha256(rounded.tobytes()).hexdigest()


def test_with_a_synthetic_reference(bundle: ClientBundle):
    assert digest(bundle, []) == SYNTHETIC


def test_with_a_labelled_reference(bundle: ClientBundle):
    reference = LabelledReference("bert", image()[:, ::-1], phantoms.truth(phantoms.TILE))
    assert digest(bundle, [reference]) == LABELLED


def test_the_precision_notices_a_changed_law(bundle: ClientBundle, monkeypatch: pytest.MonkeyPatch):
    # The positive control: one constant of the law, moved by a twentieth.
    monkeypatch.setattr("veilseg.schemes.references.TISSUE_JITTER", 0.042)
    assert digest(bundle, []) != SYNTHETIC
