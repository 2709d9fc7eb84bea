"""Privacy-SF as users run it: train, serve, segment; keys that fit and keys that do not."""

import json
import os
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import phantoms
import pytest
import torch
from typer.testing import CliRunner

from veilseg.audit import workshop
from veilseg.bundle import open_client_half, open_server_half, seal
from veilseg.cli.main import app
from veilseg.runtime import OnnxModel
from veilseg.schemes.encoding.client import (
    DECODER_FILE,
    ENCODER_FILE,
    MASK_ENCODER_FILE,
    SELFTEST_FILE,
    EncodingClient,
)
from veilseg.schemes.encoding.key import ConsortiumKey
from veilseg.schemes.encoding.training import IMAGE_CHANNELS
from veilseg.training import loop

pytestmark = pytest.mark.usefixtures("remembered_exports")

PEOPLE = tuple(f"person{number:02d}" for number in range(20))
STEPS = 12
# Of a tile of 16³, at a quarter and at an eighth of the resolution.
VALUES = 4**3 * IMAGE_CHANNELS[0] + 2**3 * IMAGE_CHANNELS[1]


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    return phantoms.make_dataset(tmp_path_factory.mktemp("encoding") / "phantoms", PEOPLE)


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "consortium.key"
    ConsortiumKey.new().write(path)
    return path


@pytest.fixture(scope="module")
def bundles(people, key, tmp_path_factory):
    """One without a key and one with."""
    folder = tmp_path_factory.mktemp("bundles")
    for name, options in (("open", []), ("keyed", ["--key", key, "--seed", 1])):
        asked = ["--scheme", "encoding", "--steps", STEPS, "--out", folder / name, *options]
        done = CliRunner().invoke(app, list(map(str, ["train", people, *asked])))
        assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def image(people):
    return min((people / "imagesTr").iterdir())


@pytest.fixture
def reason(veilseg, image, tmp_path):
    """Segment an image, which has to fail; gives exit code and the one line."""

    def run(bundle, *options):
        out = tmp_path / "out.nii.gz"
        ended = veilseg("segment", image, "--local", "--bundle", bundle, "-o", out, *options)
        assert not out.exists()
        (line,) = ended.errors
        return ended.code, line.removeprefix("veilseg: ")

    return run


def test_bundle_is_two_halves_of_which_the_server_has_no_images(bundles):
    client, server = open_client_half(bundles / "open"), open_server_half(bundles / "open")
    assert client.manifest.scheme == "encoding"
    assert client.manifest.proxy.shape == server.manifest.proxy.shape == (1, VALUES)
    files = {ENCODER_FILE, DECODER_FILE, MASK_ENCODER_FILE, SELFTEST_FILE}
    assert set(client.manifest.files) == files
    card = " ".join((bundles / "open" / "README.md").read_text().split())
    assert "white-box demonstration" in card
    assert "not encryption" in card


@pytest.mark.parametrize("name", ["open", "keyed"])
def test_server_process_answers_as_the_site_does_alone(
    veilseg, start_server, bundles, key, image, tmp_path, name
):
    bundle, options = bundles / name, ["--key", key] if name == "keyed" else []
    server = start_server(bundle)
    near, far = tmp_path / "near.nii.gz", tmp_path / "far.nii.gz"
    told = tmp_path / "told.json"
    for out, where in (
        (near, ["--local"]),
        (far, ["--server", f"http://{server.address}", "--json", told]),
    ):
        ended = veilseg("segment", image, "--bundle", bundle, "-o", out, *where, *options)
        assert ended.code == 0, ended.err
    same = np.asanyarray(nib.load(near).dataobj) == np.asanyarray(nib.load(far).dataobj)
    assert same.mean() > 0.99
    (one,) = json.loads(told.read_text())["images"]
    # Encodings are smaller than the image: sixteen bits a value, and some lines of protocol.
    assert 2 * VALUES <= one["bytes_sent"] < 2 * VALUES + 4000


def test_evaluation_goes_through_both_halves(veilseg, bundles, people, key, tmp_path):
    out = tmp_path / "keyed.json"
    ended = veilseg("evaluate", bundles / "keyed", people, "--key", key, "--json", out)
    assert ended.code == 0, ended.err
    assert json.loads(out.read_text())["scheme"] == "encoding"


def test_keyed_encodings_are_others(bundles, key):
    known = ConsortiumKey.read(key)
    halves = [
        EncodingClient(open_client_half(bundles / "open")),
        EncodingClient(open_client_half(bundles / "keyed"), known),
    ]
    tile = np.random.default_rng(0).random((1, 16, 16, 16), np.float32)
    first, second = (half.protect(tile, "somebody")[0] for half in halves)
    assert first.tiled
    assert first.array.shape == second.array.shape == (1, VALUES)
    again = halves[1].protect(tile, "somebody else")[0]
    assert again.digest() == second.digest() != first.digest()


def test_wrong_missing_and_needless_keys(bundles, key, reason, tmp_path):
    other = tmp_path / "other.key"
    ConsortiumKey.new().write(other)
    assert reason(bundles / "keyed") == (
        2,
        "--key: keyed was trained with a consortium key: give it",
    )
    wrong = "--key: keyed was trained with another consortium key"
    assert reason(bundles / "keyed", "--key", other) == (5, wrong)
    needless = "--key: open was trained without a key"
    assert reason(bundles / "open", "--key", key) == (2, needless)


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_key_open_to_others(bundles, key, reason, tmp_path):
    other = tmp_path / "other.key"
    shutil.copy(key, other)
    other.chmod(0o644)
    code, line = reason(bundles / "keyed", "--key", other)
    assert (code, "open to others" in line) == (3, True)


def test_encoder_of_another_training_is_refused(bundles, reason, tmp_path):
    """Its hash may be right: whoever repacks a bundle seals it anew."""
    mixed = tmp_path / "mixed"
    shutil.copytree(bundles / "open", mixed)
    shutil.copy(bundles / "keyed" / "client" / ENCODER_FILE, mixed / "client" / ENCODER_FILE)
    client, server = open_manifests(bundles / "open")
    code, line = reason(mixed)
    assert (code, "image_encoder.onnx" in line) == (5, True)
    altered = dict(np.load(bundles / "open" / "client" / SELFTEST_FILE))
    np.savez(mixed / "client" / SELFTEST_FILE, **altered | {"encoded": altered["encoded"] + 1})
    seal(mixed, client, server)
    code, line = reason(mixed)
    assert (code, "gives another encoding" in line) == (5, True)


def test_decoder_of_another_training_or_version_is_refused(bundles, reason, tmp_path, monkeypatch):
    """Before an encoding has left, and not by a bad mask after."""
    mixed = tmp_path / "mixed"
    shutil.copytree(bundles / "open", mixed)
    client, server = open_manifests(bundles / "open")
    file = mixed / "client" / SELFTEST_FILE
    known = dict(np.load(file))
    np.savez(file, **known | {"recovered": 1 - known["recovered"]})
    seal(mixed, client, server)
    code, line = reason(mixed)
    assert (code, "gives another mask" in line) == (5, True)
    np.savez(file, image=known["image"], encoded=known["encoded"])  # as bundles had it before
    seal(mixed, client, server)
    code, line = reason(mixed)
    assert (code, "not a self-test" in line) == (5, True)
    np.savez(file, **known)
    seal(mixed, client, server)
    every_output = OnnxModel.all
    monkeypatch.setattr(OnnxModel, "all", lambda *one, **given: every_output(*one, **given)[:1])
    code, line = reason(mixed)
    assert (code, "of another version" in line) == (5, True)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda voxels: np.where(voxels > np.median(voxels), np.nan, voxels), "NaN"),
        (lambda voxels: np.stack([voxels, voxels], axis=-1), "is 4D"),
    ],
    ids=["NaN", "four axes"],
)
def test_images_that_cannot_be_encoded(veilseg, bundles, image, tmp_path, change, told):
    given, out = nib.load(image), tmp_path / "out.nii.gz"
    broken = tmp_path / "broken.nii.gz"
    voxels = change(np.asanyarray(given.dataobj).astype(np.float32))
    nib.save(nib.Nifti1Image(voxels, given.affine), broken)
    ended = veilseg("segment", broken, "--local", "--bundle", bundles / "open", "-o", out)
    (line,) = ended.errors
    assert (ended.code, "broken.nii.gz" in line, told in line) == (3, True, True)
    assert not out.exists()


def open_manifests(bundle):
    return open_client_half(bundle).manifest, open_server_half(bundle).manifest


def test_nothing_is_averaged(bundles, reason):
    code, line = reason(bundles / "open", "--mixtures", 2)
    assert (code, "mixes nothing" in line) == (2, True)


def test_key_is_rotated_and_the_old_one_kept(veilseg, tmp_path):
    file = tmp_path / "site.key"
    assert veilseg("key", "new", file).code == 0
    old = ConsortiumKey.read(file)
    ended = veilseg("key", "rotate", file)
    assert ended.code == 0, ended.err
    assert ConsortiumKey.read(file) != old
    assert ConsortiumKey.read(tmp_path / f"site.key.{old.fingerprint()}") == old
    ended = veilseg("key", "new", file)
    assert (ended.code, "never overwritten" in ended.err) == (3, True)


ATTACKS = {"A9", "A10", "A10b", "A11", "A12", "A12p", "A14", "A14e", "A15e", "A16e"}


@pytest.mark.long
@pytest.mark.timeout(600)
def test_audit_of_a_keyed_bundle(veilseg, bundles, people, key, tmp_path, monkeypatch):
    monkeypatch.setattr(workshop, "QUICK", replace(workshop.QUICK, steps=20))
    files = ["--json", tmp_path / "audit.json", "--html", tmp_path / "audit.html"]
    ended = veilseg("audit", bundles / "keyed", people, "--key", key, "--quick", *files)
    assert ended.code == 0, ended.err
    channels = json.loads((tmp_path / "audit.json").read_text())["channels"]
    found = {one["attack"]: one for channel in channels.values() for one in channel}
    tried = {name for name, one in found.items() if one["positive_control"] is not None}
    assert tried == ATTACKS
    # Those of mixtures are there with the reason why they are not run.
    assert all(found[name]["status"].startswith("not run: ") for name in set(found) - ATTACKS)
    # Phantoms are too much alike for every null control; what must work has worked.
    of_key = [one for one in channels["image"] if one["attack"] == "A11"]
    with_images, without = (one for one in of_key if one["metric"] != "SSIM")
    behind, _ = (one for one in of_key if one["metric"] == "SSIM")
    assert with_images["positive_control"]["passed"]
    assert with_images["value"] < 0.01
    assert without["threat"]["known_pairs"] == 0
    assert without["setting"].startswith("no known image")
    # One image gives the key, and with it whatever an encoding shows.
    (all_pairs,) = (one for one in channels["image"] if one["setting"].endswith("(black box)"))
    assert behind["value"] == pytest.approx(all_pairs["value"], abs=0.02)
    assert "encod" in (tmp_path / "audit.html").read_text()


def test_audit_without_the_key_attacks_nothing(veilseg, bundles, people, tmp_path):
    files = ["--json", tmp_path / "audit.json", "--html", tmp_path / "audit.html"]
    ended = veilseg("audit", bundles / "keyed", people, "--quick", *files)
    assert (ended.code, ended.out) == (2, "")
    assert "was trained with a consortium key: give it" in ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("scheme", "control", "variant"),
    [("encoding", "linear", "linear"), ("plain", "local", "ClientAlone")],
)
def test_controls_are_trained_and_evaluated(veilseg, people, tmp_path, scheme, control, variant):
    bundle = tmp_path / control
    options = ["--scheme", scheme, "--control", control, "--steps", STEPS, "--out", bundle]
    done = veilseg("train", people, *options)
    assert done.code == 0, done.err
    assert json.loads((bundle / "weights" / "run.json").read_text())["variant"] == variant
    ended = veilseg("evaluate", bundle, people)
    assert ended.code == 0, ended.err
    # Another run does not go on from a control's checkpoint.
    again = veilseg("train", people, "--scheme", scheme, "--resume", "--out", bundle)
    assert again.code == 2
    assert "another variant" in again.err


def test_control_of_another_scheme(veilseg, people, tmp_path):
    out = tmp_path / "none"
    ended = veilseg("train", people, "--scheme", "mixup", "--control", "linear", "--out", out)
    (line,) = ended.errors
    assert (ended.code, line) == (
        2,
        "veilseg: --control linear: there are linear of encoding, local of plain",
    )
    assert not out.exists()


@pytest.mark.long
def test_minutes_of_all_stages_become_steps(veilseg, people, tmp_path):
    bundle = tmp_path / "timed"
    options = ["--scheme", "encoding", "--minutes", 0.1, "--out", bundle]
    done = veilseg("train", people, *options)
    assert done.code == 0, done.err
    assert json.loads((bundle / "weights" / "run.json").read_text())["steps"] >= 4


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def unbroken(people, tmp_path_factory):
    """A bundle trained on one thread without a break, and how it is asked for but for its folder.

    Of 8 steps three are of the autoencoders, three of the mapping network and two of the decoder.
    """
    bundle = tmp_path_factory.mktemp("unbroken") / "same"
    options = list(map(str, ["train", people, "--scheme", "encoding", "--steps", 8, "--out"]))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ended = CliRunner().invoke(app, [*options, str(bundle)])
    torch.set_num_threads(threads)
    assert ended.exit_code == 0, ended.output
    return bundle, options


@pytest.mark.parametrize(
    "saved",
    # Within each stage, and where it ends: units are measured and pairs made after the first.
    [1, 3, *(pytest.param(n, marks=pytest.mark.long) for n in (4, 6)), 7],
)
def test_resumed_in_any_stage_equals_an_unbroken_run(
    unbroken, tmp_path, monkeypatch, one_thread, saved
):
    whole, options = unbroken
    broken = tmp_path / "same"
    save, left = loop.save_checkpoint, [saved]

    def interrupted(*arguments):
        save(*arguments)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(loop, "STEPS_PER_CHECKPOINT", 1)
        patched.setattr(loop, "save_checkpoint", interrupted)
        assert CliRunner().invoke(app, [*options, str(broken)]).exit_code == 130
    assert not (broken / "client").exists()
    assert CliRunner().invoke(app, [*options, str(broken), "--resume"]).exit_code == 0
    ids = [open_client_half(bundle).manifest.bundle_id for bundle in (whole, broken)]
    assert ids[0] == ids[1]
