"""Server halves that come later belong to the client half there is."""

import json
import shutil
from dataclasses import replace

import pytest

from veilseg.binding import bind, client_digest_of, seal_server_half
from veilseg.bundle import open_client_half, open_server_half
from veilseg.digests import MANIFEST_FILE
from veilseg.errors import BundleIntegrity, OutputNotWritable


@pytest.fixture
def bundle(make_bundle, tmp_path):
    shutil.copytree(make_bundle(version="1"), tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def later(bundle, tmp_path):
    """Version 2 of the server half, as a provider has it: without the client half."""
    half = open_server_half(bundle)
    folder = tmp_path / "later" / "server"
    shutil.copytree(half.folder, folder)
    seal_server_half(folder, replace(half.manifest, version="2"))
    return tmp_path / "later"


def test_client_half_is_bound_to_the_later_server_half(bundle, later, tmp_path):
    published = (later / "server" / MANIFEST_FILE).read_bytes()
    found = bind(bundle, published, tmp_path / "new")
    client, server = open_client_half(tmp_path / "new"), open_server_half(later)
    assert found == client.manifest.bundle_id == server.manifest.bundle_id
    assert client.manifest.served_version == server.manifest.version == "2"
    first = open_client_half(bundle)
    assert first.manifest.bundle_id != found
    assert client.manifest.files == first.manifest.files
    # A vault and the proxies that it hides go on: nothing of them changes.
    assert client.manifest.protection_id == first.manifest.bundle_id
    assert client_digest_of(client) == client_digest_of(first) == server.manifest.peer_digest
    assert not (tmp_path / "new" / "server").exists()


def test_bound_again(bundle, later, tmp_path):
    bind(bundle, (later / "server" / MANIFEST_FILE).read_bytes(), tmp_path / "two")
    bind(tmp_path / "two", (bundle / "server" / MANIFEST_FILE).read_bytes(), tmp_path / "one")
    back = open_client_half(tmp_path / "one").manifest
    first = open_client_half(bundle).manifest
    assert (back.bundle_id, back.protection_id) == (first.bundle_id, first.bundle_id)
    assert back.served_version == "1"


def test_server_half_of_another_client_half(bundle, later, make_bundle, tmp_path):
    other = make_bundle(name="other", version="1")
    published = (later / "server" / MANIFEST_FILE).read_bytes()
    with pytest.raises(BundleIntegrity, match="version 2 belongs to another client half"):
        bind(other, published, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_manifest_that_was_changed(bundle, later, tmp_path):
    fields = json.loads((later / "server" / MANIFEST_FILE).read_bytes())
    fields["version"] = "3"
    with pytest.raises(BundleIntegrity, match="changed after it was sealed"):
        bind(bundle, json.dumps(fields).encode(), tmp_path / "new")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"name": 1}'])
def test_manifest_that_is_none(bundle, content, tmp_path):
    with pytest.raises(BundleIntegrity, match="not one of a server half"):
        bind(bundle, content, tmp_path / "new")


def test_folder_that_exists(bundle, later, tmp_path):
    published = (later / "server" / MANIFEST_FILE).read_bytes()
    with pytest.raises(OutputNotWritable, match="bundle: exists already"):
        bind(bundle, published, bundle)
