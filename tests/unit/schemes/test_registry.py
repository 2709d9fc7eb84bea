"""From a bundle's scheme to its client half."""

from dataclasses import replace
from pathlib import Path

import phantoms
import pytest

from veilseg.bundle import ClientBundle, open_client_half
from veilseg.errors import BundleIntegrity, WrongUsage
from veilseg.schemes.mixup.client import MixupClient
from veilseg.schemes.plain.client import PlainClient
from veilseg.schemes.registry import NEEDS_VAULT, client_half, client_halves
from veilseg.vault.vault import Vault


@pytest.fixture(scope="module")
def mixup(tmp_path_factory: pytest.TempPathFactory) -> ClientBundle:
    return open_client_half(phantoms.make_bundle(tmp_path_factory.mktemp("mixup"), "mixup"))


def test_known_schemes(mixup: ClientBundle, tmp_path: Path):
    plain = open_client_half(phantoms.make_bundle(tmp_path, "plain"))
    assert isinstance(client_half(plain, None), PlainClient)
    assert isinstance(client_half(mixup, Vault.in_memory(bytes(32))), MixupClient)


def test_ways_to_recover_the_default_first(mixup: ClientBundle, tmp_path: Path):
    plain = open_client_half(phantoms.make_bundle(tmp_path / "plain", "plain"))
    folder = phantoms.make_bundle(tmp_path / "algebraic", "mixup", unmixing="algebraic")
    vault = Vault.in_memory(bytes(32))
    assert list(client_halves(plain, None)) == ["plain"]
    assert list(client_halves(mixup, vault)) == ["learned", "algebraic"]
    assert list(client_halves(open_client_half(folder), vault)) == ["algebraic"]


def test_plain_has_no_coefficient(tmp_path: Path):
    plain = open_client_half(phantoms.make_bundle(tmp_path, "plain"))
    for build in (client_half, client_halves):
        with pytest.raises(WrongUsage, match="--coefficient: plain mixes nothing"):
            build(plain, None, coefficient=0.5)


def test_mixup_without_a_secret(mixup: ClientBundle):
    assert "mixup" in NEEDS_VAULT
    with pytest.raises(TypeError, match="needs a vault"):
        client_half(mixup, None)


def test_unknown_scheme(mixup: ClientBundle):
    later = ClientBundle(mixup.folder, replace(mixup.manifest, scheme="later"))
    with pytest.raises(BundleIntegrity, match=r"manifest\.json: scheme: later is unknown here"):
        client_half(later, Vault.in_memory(bytes(32)))
