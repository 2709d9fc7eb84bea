"""Each half of a bundle verifies alone; whatever is not as it was sealed is refused."""

import hashlib
import json
import shutil

import pytest

from veilseg.bundle import (
    FORMAT_VERSION,
    ClientManifest,
    Expectation,
    IntensityRule,
    Label,
    ServerManifest,
    TensorSpec,
    open_client_half,
    open_server_half,
    seal,
)
from veilseg.digests import sha256_of
from veilseg.errors import BundleIntegrity, InvalidInput

OPEN = {"client": open_client_half, "server": open_server_half}
PROXY = TensorSpec("proxy", "FP16", (-1, 1, 8, 8, 8))
ANSWER = TensorSpec("answer", "FP16", (-1, 2, 8, 8, 8))
CLIENT = ClientManifest(
    name="brain",
    version="1.0.0",
    scheme="mixup",
    labels=(Label(0, "background"), Label(1, "ventricle", {"scheme": "SCT", "value": "80622005"})),
    spatial_dims=3,
    channels=("T1",),
    spacing_mm=(1.0, 1.0, 1.5),
    tile_shape=(8, 8, 8),
    tile_overlap=0.25,
    intensity=IntensityRule("percentile", 0.5, 99.5),
    expectation=Expectation((0.4, 0.6), (150.0, 180.0), (1.0, 1.5), (0.25, 0.75), 0.03),
    proxy=PROXY,
    answer=ANSWER,
    settings={"coefficient": 0.5, "references": ["synthetic"]},
    licence="Apache-2.0",
    provenance={"seed": 1, "data_sha256": "ä"},
    metrics={"mean_dice": 0.9},
)

OF_THE_PAIR = ("peer_digest", "peer_version", "bundle_id", "first_bundle_id")


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "bundle"
    for name, content in {
        "client/unmixer.onnx": b"unmixer",
        "client/template.npz": b"template",
        "server/brain/1/model.onnx": b"model",
        "server/brain/config.pbtxt": b"config",
        "server/selftest/tile.npz": b"tile",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    seal(folder, CLIENT, ServerManifest("brain", "1.0.0", PROXY, ANSWER))
    return folder


def manifest(bundle, role):
    return json.loads((bundle / role / "manifest.json").read_text(encoding="utf-8"))


def write_manifest(bundle, role, fields):
    (bundle / role / "manifest.json").write_text(json.dumps(fields), encoding="utf-8")


def reseal(bundle, role, **changes):
    """Change a manifest as someone could who knows the format: with fitting digests."""
    fields = manifest(bundle, role) | changes
    covered = {k: v for k, v in fields.items() if k not in OF_THE_PAIR}
    own = hashlib.sha256(json.dumps(covered, sort_keys=True).encode()).hexdigest()
    pair = (own, fields["peer_digest"])
    client, server = pair if role == "client" else reversed(pair)
    fields["bundle_id"] = hashlib.sha256(f"{client}:{server}".encode()).hexdigest()
    write_manifest(bundle, role, fields)


def refused(bundle, role, reason, error=BundleIntegrity):
    with pytest.raises(error, match=reason) as caught:
        OPEN[role](bundle)
    assert str(bundle) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_client_half_comes_back_as_sealed(bundle):
    found = open_client_half(bundle)
    expected = CLIENT.__dict__ | {
        name: getattr(found.manifest, name) for name in ("files", "peer_digest", "bundle_id")
    }
    assert found.manifest == ClientManifest(**expected)
    assert found.manifest.files.keys() == {"unmixer.onnx", "template.npz"}
    assert found.file("unmixer.onnx").read_bytes() == b"unmixer"
    assert found.manifest.format_version == FORMAT_VERSION


def test_server_half_comes_back_as_sealed(bundle):
    found = open_server_half(bundle)
    assert (found.manifest.name, found.manifest.version) == ("brain", "1.0.0")
    assert (found.manifest.proxy, found.manifest.answer) == (PROXY, ANSWER)
    assert found.model_file.read_bytes() == b"model"
    assert found.selftest_file.read_bytes() == b"tile"


def test_both_halves_carry_one_identity(bundle):
    client, server = open_client_half(bundle).manifest, open_server_half(bundle).manifest
    assert client.bundle_id == server.bundle_id
    assert len(client.bundle_id) == 64
    assert client.peer_digest != server.peer_digest


def test_server_half_holds_nothing_that_helps_to_recover(bundle):
    text = (bundle / "server" / "manifest.json").read_text()
    for word in ("coefficient", "template", "unmixer", "mixup", "ventricle", "percentile"):
        assert word not in text


@pytest.mark.parametrize(("role", "other"), [("client", "server"), ("server", "client")])
def test_a_half_verifies_alone(bundle, role, other):
    shutil.rmtree(bundle / other)
    OPEN[role](bundle)
    refused(bundle, other, f"no {other} half", InvalidInput)


def test_sealing_again_gives_the_same_identity(bundle):
    before = open_client_half(bundle).manifest.bundle_id
    again = seal(bundle, CLIENT, ServerManifest("brain", "1.0.0", PROXY, ANSWER))
    assert again == before


def test_any_change_gives_another_identity(bundle):
    before = open_client_half(bundle).manifest.bundle_id
    (bundle / "server" / "brain" / "1" / "model.onnx").write_bytes(b"other")
    assert seal(bundle, CLIENT, ServerManifest("brain", "1.0.0", PROXY, ANSWER)) != before


def test_identity_survives_line_endings_and_layout_of_the_json(bundle):
    for role in OPEN:
        fields = manifest(bundle, role)
        (bundle / role / "manifest.json").write_bytes(
            json.dumps(dict(reversed(fields.items())), indent=1).replace("\n", "\r\n").encode()
        )
        OPEN[role](bundle)


@pytest.mark.parametrize(
    ("role", "name"),
    [("client", "unmixer.onnx"), ("server", "brain/1/model.onnx"), ("server", "selftest/tile.npz")],
)
def test_altered_file_is_named(bundle, role, name):
    path = bundle / role / name
    path.write_bytes(path.read_bytes() + b"\0")
    refused(bundle, role, f"{name}: SHA-256 differs")


@pytest.mark.parametrize(
    ("role", "name"), [("client", "template.npz"), ("server", "brain/config.pbtxt")]
)
def test_missing_file_is_named(bundle, role, name):
    (bundle / role / name).unlink()
    refused(bundle, role, f"{name}: missing")


@pytest.mark.parametrize(
    ("role", "field", "value"),
    [
        ("client", "settings", {"coefficient": 0.9}),
        ("client", "licence", "MIT"),
        ("client", "bundle_id", "0" * 64),
        ("client", "peer_digest", "0" * 64),
        ("server", "version", "1.0.1"),
        ("server", "files", {}),
    ],
)
def test_altered_manifest_is_refused(bundle, role, field, value):
    write_manifest(bundle, role, manifest(bundle, role) | {field: value})
    refused(bundle, role, "bundle_id: the manifest was changed")


@pytest.mark.parametrize("role", OPEN)
@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 0, "1", None])
def test_other_format_version_is_refused(bundle, role, version):
    reseal(bundle, role, format_version=version)
    refused(bundle, role, f"format_version: {version} is not the {FORMAT_VERSION}")


@pytest.mark.parametrize("role", OPEN)
@pytest.mark.parametrize("way", ["parent", "absolute", "link"])
def test_file_outside_the_half_is_refused(bundle, role, way, tmp_path):
    outside = tmp_path / "outside.bin"
    outside.write_bytes(b"outside")
    name = {"parent": "../../outside.bin", "absolute": str(outside), "link": "link.bin"}[way]
    if way == "link":
        (bundle / role / name).symlink_to(outside)
    files = manifest(bundle, role)["files"] | {name: sha256_of(outside)}
    reseal(bundle, role, files=files)
    refused(bundle, role, "lies outside the bundle")


@pytest.mark.parametrize("role", OPEN)
@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"format_version": 1, "files": 3}'])
def test_manifest_that_is_none_is_refused(bundle, role, text):
    (bundle / role / "manifest.json").write_text(text)
    refused(bundle, role, "not a bundle manifest")


def test_manifest_with_unknown_or_missing_fields_is_refused(bundle):
    reseal(bundle, "client", surprise=1)
    refused(bundle, "client", "surprise")
    fields = manifest(bundle, "server")
    del fields["proxy"]
    write_manifest(bundle, "server", fields)
    reseal(bundle, "server")
    refused(bundle, "server", "proxy")


def test_folder_without_a_bundle_is_no_integrity_error(tmp_path):
    for role in OPEN:
        refused(tmp_path, role, f"{role}/manifest.json is missing", InvalidInput)


def test_file_that_is_not_listed_cannot_be_asked_for(bundle):
    (bundle / "client" / "extra.onnx").write_bytes(b"smuggled")
    with pytest.raises(BundleIntegrity, match=r"extra\.onnx is not listed"):
        open_client_half(bundle).file("extra.onnx")


def test_every_file_of_a_half_is_pinned(bundle):
    nested = bundle / "server" / "brain" / "1" / "manifest.json"
    nested.write_bytes(b"{}")
    seal(bundle, CLIENT, ServerManifest("brain", "1.0.0", PROXY, ANSWER))
    assert "brain/1/manifest.json" in open_server_half(bundle).manifest.files


def test_hash_is_that_of_sha256sum(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_of(tmp_path / "x").startswith("ba7816bf8f01cfea414140de5dae2223")
