"""The client half of ``mixup``: one image, one proxy; and what an ideal server answers, undone."""

import hashlib
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import phantoms
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from veilseg.bundle import ClientBundle, open_client_half
from veilseg.errors import (
    BundleIntegrity,
    GeometryMismatch,
    InvalidInput,
    InvalidVault,
    WrongUsage,
)
from veilseg.payload import Answer, Receipt
from veilseg.schemes.bare_answers import NothingKept
from veilseg.schemes.mixup.client import MixupClient, has_synthetic_references, unmixings
from veilseg.schemes.references import TEMPLATE_FILE, UNMIXER_FILE
from veilseg.vault.vault import LabelledReference, Vault

KEY = bytes(range(32))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ClientBundle:
    return open_client_half(phantoms.make_bundle(tmp_path_factory.mktemp("mixup"), "mixup"))


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return phantoms.truth((18, 16, 20))


@pytest.fixture(scope="module")
def image(labels: np.ndarray) -> np.ndarray:
    """A prepared phantom, larger than a tile, shape (1, 18, 16, 20)."""
    return (phantoms.raw_image(labels)[None] / np.float32(phantoms.RAW_SCALE)).astype(np.float32)


def half(bundle: ClientBundle, key: bytes = KEY, **options: object) -> MixupClient:
    return MixupClient(bundle, Vault.in_memory(key), **options)


def test_one_image_has_one_proxy(bundle: ClientBundle, image: np.ndarray):
    first, _ = half(bundle).protect(image, "anna")
    # A copy, another client, another vault of the same key, another name of the subject.
    again, _ = half(bundle).protect(image.copy(), "whoever")
    assert first.array.tobytes() == again.array.tobytes()
    assert first.digest() == again.digest()
    assert first.array.dtype == np.float32
    assert first.array.shape == image.shape


def test_mixtures_have_references_of_their_own(bundle: ClientBundle, image: np.ndarray):
    client = half(bundle)
    unnumbered, _ = client.protect(image, "anna")
    made = [client.protect(image, "anna", number) for number in range(4)]
    # Number 0 is the proxy of whoever does not augment; each is made again to the bit.
    assert made[0][0].digest() == unnumbered.digest()
    again, _ = half(bundle).protect(image.copy(), "whoever", 3)
    assert again.array.tobytes() == made[3][0].array.tobytes()
    assert len({proxy.digest() for proxy, _ in made}) == 4
    images = [receipt.reference.image for _, receipt in made]
    for first in range(4):
        for second in range(first):
            # Alike by their common anatomy, but never the same.
            assert np.abs(images[first] - images[second]).mean() > 0.03


def test_the_image_is_left_as_it_was(bundle: ClientBundle, image: np.ndarray):
    before = image.copy()
    half(bundle).protect(image, "anna")
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("change", ["key", "content", "coefficient", "bundle"])
def test_another_secret_or_content_has_another_reference(
    bundle: ClientBundle, image: np.ndarray, tmp_path: Path, change: str
):
    _, first = half(bundle).protect(image, "anna")
    other_bundle, key, content = bundle, KEY, image
    if change == "key":
        key = KEY[::-1]
    elif change == "content":
        content = image.copy()
        content[0, 9, 8, 10] += np.float32(1e-3)
    elif change == "coefficient":
        # Never the same reference with another coefficient: two such mixtures give both images.
        other_bundle = phantoms.with_coefficient(bundle, 0.6)
    else:
        other_bundle = open_client_half(phantoms.make_bundle(tmp_path, "mixup", name="other"))
    _, second = half(other_bundle, key).protect(content, "anna")
    one, other = first.reference.image, second.reference.image
    # Two references alike are correlated by their common anatomy, but never the same.
    assert np.abs(one - other).mean() > 0.03


PROTECT = """
import hashlib, sys
from pathlib import Path
from veilseg.bundle import open_client_half
from veilseg.client.pipeline import protect
from veilseg.schemes.mixup.client import MixupClient, has_synthetic_references, unmixings
from veilseg.vault.vault import Vault
bundle = open_client_half(Path(sys.argv[1]))
with Vault.open(Path(sys.argv[2]), bundle.manifest.bundle_id) as vault:
    half = MixupClient(bundle, vault)
    for file in sys.argv[3:]:
        proxy = protect([Path(file)], Path(file).name, bundle.manifest, half).proxy
        print(hashlib.sha256(proxy.array.tobytes()).hexdigest(), proxy.digest())
"""


def test_processes_and_file_names_make_no_difference(
    bundle: ClientBundle, labels: np.ndarray, tmp_path: Path
):
    vault = tmp_path / "vault"
    Vault.create(vault, bundle.manifest.bundle_id)
    files = [
        phantoms.write_nifti(tmp_path / name, phantoms.raw_image(labels))
        for name in ("scan.nii.gz", "copy of scan.nii")
    ]
    command = [sys.executable, "-c", PROTECT, str(bundle.folder.parent), str(vault)]
    lines = [
        subprocess.run([*command, str(file)], capture_output=True, text=True, check=True).stdout
        for file in files
    ]
    assert lines[0] == lines[1]
    assert len(lines[0].split()) == 2


@settings(max_examples=25, derandomize=True, deadline=None)
@given(coefficient=st.floats(0.2, 0.9), seed=st.integers(0, 1000), key=st.binary(min_size=1))
def test_an_ideal_server_is_undone_exactly(
    bundle: ClientBundle, coefficient: float, seed: int, key: bytes
):
    labels = phantoms.truth(phantoms.TILE, radius=0.6 + seed % 5 / 10)
    raw = phantoms.raw_image(labels, seed)[None] / np.float32(phantoms.RAW_SCALE)
    target = phantoms.one_hot(labels)
    client = half(phantoms.with_coefficient(bundle, coefficient), key, unmixing="algebraic")
    proxy, receipt = client.protect(raw.astype(np.float32), "anna")
    assert np.isfinite(proxy.array).all()
    theirs = phantoms.one_hot(receipt.reference.labels)
    answer = np.float32(coefficient) * target + np.float32(1 - coefficient) * theirs
    # As on the wire: values in [0, 1] are off by 2**-12 at most in FP16, over a ≥ 0.2 by 0.0013.
    wire = answer.astype(np.float16).astype(np.float32)
    recovered = client.recover(Answer(wire), receipt)
    np.testing.assert_array_equal(recovered.argmax(axis=0), labels)
    np.testing.assert_allclose(recovered, target, atol=4e-3)
    np.testing.assert_allclose(recovered.sum(axis=0), 1, atol=1e-5)


def test_the_mixture_is_what_the_paper_says(bundle: ClientBundle, image: np.ndarray):
    proxy, receipt = half(phantoms.with_coefficient(bundle, 0.3)).protect(image, "anna")
    inside = image[0] > 0
    expected = np.float32(0.3) * image + np.float32(0.7) * receipt.reference.image
    np.testing.assert_allclose(proxy.array[0][inside], expected[0][inside], atol=1e-6)
    # Where the patient is empty, neither the reference alone nor a fixed share of it is shown.
    outside = proxy.array[0][~inside] / receipt.reference.image[0][~inside]
    assert outside.std() > 0.01


def test_the_learned_unmixer_sees_all_four_inputs_tile_by_tile(
    tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    # answer + 2 · labels + 4 · reference + 8 · a: whatever is swapped or lost changes the sum.
    nodes = [
        helper.make_node("Mul", ["reference_labels", "two"], ["labels"]),
        helper.make_node("Mul", ["reference", "four"], ["image"]),
        helper.make_node("Mul", ["coefficient", "eight"], ["share"]),
        helper.make_node("Sum", ["answer", "labels", "image", "share"], ["probabilities"]),
    ]
    factors = {"two": 2, "four": 4, "eight": 8}
    constants = {name: np.array([value], dtype=np.float32) for name, value in factors.items()}
    network = phantoms.four_inputs(nodes, constants).SerializeToString()
    bundle = open_client_half(phantoms.make_bundle(tmp_path, "mixup", unmixer=network))
    client = half(bundle)
    _, receipt = client.protect(image, "anna")
    answer = np.random.default_rng(1).random((3, *image.shape[1:]), dtype=np.float32)
    calls = []
    unmixer = client._unmixer
    assert unmixer is not None
    monkeypatch.setattr(
        client,
        "_unmixer",
        lambda **tensors: calls.append(tensors["answer"].shape) or unmixer(**tensors),
    )
    recovered = client.recover(Answer(answer), receipt)
    reference = receipt.reference
    expected = answer + 2 * phantoms.one_hot(reference.labels) + 4 * reference.image + 8 * 0.5
    # Tiles overlap and are blended; a network without memory gives the same on each.
    np.testing.assert_allclose(recovered, expected, atol=1e-4)
    # (18, 16, 20) in tiles of 16³: two along the first axis, one, two.
    assert calls == [(1, 3, *phantoms.TILE)] * 4


def test_learned_and_algebraic_agree_where_the_network_is_the_algebra(
    bundle: ClientBundle, image: np.ndarray, labels: np.ndarray
):
    learned, algebraic = half(bundle), half(bundle, unmixing="algebraic")
    _, receipt = learned.protect(image, "anna")
    theirs = phantoms.one_hot(receipt.reference.labels)
    answer = Answer(0.5 * phantoms.one_hot(labels) + 0.5 * theirs)
    one, other = learned.recover(answer, receipt), algebraic.recover(answer, receipt)
    np.testing.assert_allclose(one, other, atol=1e-5)
    np.testing.assert_array_equal(one.argmax(axis=0), labels)


def test_a_labelled_reference_is_of_another_patient(bundle: ClientBundle, image: np.ndarray):
    labels = phantoms.truth(phantoms.TILE)
    raw = phantoms.raw_image(labels)[None] / np.float32(phantoms.RAW_SCALE)
    cases = [
        LabelledReference("anna", raw.astype(np.float32), np.zeros_like(labels)),
        LabelledReference("bert", raw.astype(np.float32), labels),
    ]
    client = MixupClient(bundle, Vault.in_memory(KEY, cases))
    _, receipt = client.protect(image, "anna")
    # Anna's own has no label but 0.
    assert receipt.reference.labels.max() == 2
    _, receipt = client.protect(image, "bert")
    assert receipt.reference.labels.max() == 0


def test_several_channels(tmp_path: Path, labels: np.ndarray, image: np.ndarray):
    bundle = open_client_half(phantoms.make_bundle(tmp_path, "mixup", channels=2))
    client = half(bundle)
    proxy, receipt = client.protect(np.concatenate([image, image[:, ::-1]]), "anna")
    assert proxy.array.shape == (2, *image.shape[1:])
    theirs = phantoms.one_hot(receipt.reference.labels)
    answer = Answer(0.5 * phantoms.one_hot(labels) + 0.5 * theirs)
    np.testing.assert_array_equal(client.recover(answer, receipt).argmax(axis=0), labels)


def test_a_receipt_stays(bundle: ClientBundle, image: np.ndarray):
    _, receipt = half(bundle).protect(image, "anna")
    assert repr(receipt) == str(receipt) == "<MixupReceipt: redacted, never leaves the site>"
    with pytest.raises(TypeError, match="never leaves the site"):
        pickle.dumps(receipt)


def test_another_schemes_receipt(bundle: ClientBundle, image: np.ndarray):
    with pytest.raises(TypeError, match="a MixupReceipt is needed, not a NothingKept"):
        half(bundle).recover(Answer(image), NothingKept())
    assert issubclass(NothingKept, Receipt)


def test_wrong_channels(bundle: ClientBundle, image: np.ndarray):
    with pytest.raises(GeometryMismatch, match="image with 2 channels; the bundle takes 1"):
        half(bundle).protect(np.concatenate([image, image]), "anna")


@pytest.mark.parametrize("unmixing", ["learned", "algebraic"])
@pytest.mark.parametrize("shape", [(2, 18, 16, 20), (3, 16, 18, 20), (3, 18, 16)])
def test_wrong_answer(bundle: ClientBundle, image: np.ndarray, unmixing: str, shape: tuple):
    client = half(bundle, unmixing=unmixing)
    _, receipt = client.protect(image, "anna")
    with pytest.raises(GeometryMismatch, match=r"answer of shape .*; expected \(3, 18, 16, 20\)"):
        client.recover(Answer(np.zeros(shape, dtype=np.float32)), receipt)


@pytest.mark.parametrize("value", [None, "half", 0, 1, -0.5, 1.5, float("nan"), [0.5]])
def test_no_usable_coefficient(bundle: ClientBundle, value: object):
    with pytest.raises(BundleIntegrity, match=r"manifest\.json: settings: no mixing coefficient"):
        half(phantoms.with_coefficient(bundle, value))


def test_another_coefficient_within_the_range_trained_for(tmp_path: Path, image: np.ndarray):
    bundle = open_client_half(phantoms.make_bundle(tmp_path, "mixup", coefficient_range=[0.4, 0.6]))
    proxy, receipt = half(bundle, coefficient=0.6).protect(image, "anna")
    inside = image[0] > 0
    expected = np.float32(0.6) * image + np.float32(0.4) * receipt.reference.image
    np.testing.assert_allclose(proxy.array[0][inside], expected[0][inside], atol=1e-6)
    # The bundle's own, said aloud, is the same protection.
    same, _ = half(bundle, coefficient=0.5).protect(image, "anna")
    assert same.digest() == half(bundle).protect(image, "anna")[0].digest()
    for value in (0.39, 0.61, 1.0, float("nan")):
        with pytest.raises(InvalidInput, match=r"--coefficient .*was trained for 0\.4…0\.6"):
            half(bundle, coefficient=value)


def test_a_bundle_without_a_range_has_one_coefficient(bundle: ClientBundle):
    half(bundle, coefficient=0.5)
    with pytest.raises(InvalidInput, match=r"--coefficient 0\.4: .*was trained for 0\.5…0\.5"):
        half(bundle, coefficient=0.4)


def test_a_bundle_trained_for_the_algebra_has_no_network(
    tmp_path: Path, bundle: ClientBundle, image: np.ndarray, labels: np.ndarray
):
    algebraic = open_client_half(phantoms.make_bundle(tmp_path, "mixup", unmixing="algebraic"))
    assert UNMIXER_FILE not in algebraic.manifest.files
    assert unmixings(algebraic.manifest) == ("algebraic",)
    assert unmixings(bundle.manifest) == ("learned", "algebraic")
    client = half(algebraic)
    _, receipt = client.protect(image, "anna")
    theirs = phantoms.one_hot(receipt.reference.labels)
    answer = Answer(0.5 * phantoms.one_hot(labels) + 0.5 * theirs)
    np.testing.assert_array_equal(client.recover(answer, receipt).argmax(axis=0), labels)
    with pytest.raises(WrongUsage, match="--unmixing learned: phantom-mixup has no unmixing netw"):
        half(algebraic, unmixing="learned")


def test_without_a_template_references_are_labelled_cases(
    tmp_path: Path, bundle: ClientBundle, image: np.ndarray
):
    bare = open_client_half(phantoms.make_bundle(tmp_path, "mixup", references=["labelled"]))
    assert TEMPLATE_FILE not in bare.manifest.files
    assert not has_synthetic_references(bare.manifest)
    assert has_synthetic_references(bundle.manifest)
    with pytest.raises(InvalidVault, match="phantom-mixup has no synthetic ones: make a vault"):
        half(bare)
    labels = phantoms.truth(phantoms.TILE)
    raw = (phantoms.raw_image(labels)[None] / np.float32(phantoms.RAW_SCALE)).astype(np.float32)
    vault = Vault.in_memory(KEY, [LabelledReference("bert", raw, labels)])
    proxy, _ = MixupClient(bare, vault).protect(image, "anna")
    assert proxy.array.shape == image.shape


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (TEMPLATE_FILE, "not a label template"),
        (UNMIXER_FILE, "not a model this runtime can load"),
    ],
)
def test_rubbish_that_was_sealed(tmp_path: Path, name: str, reason: str):
    bundle = open_client_half(phantoms.make_bundle(tmp_path, "mixup", rubbish=name))
    with pytest.raises(BundleIntegrity, match=f"{name}: {reason}"):
        half(bundle)


def test_an_unmixer_with_other_inputs(tmp_path: Path, image: np.ndarray):
    network = phantoms.server_network(1, 0.0).SerializeToString()
    bundle = open_client_half(phantoms.make_bundle(tmp_path, "mixup", unmixer=network))
    client = half(bundle)
    _, receipt = client.protect(image, "anna")
    with pytest.raises(BundleIntegrity, match="takes proxy, not answer, coefficient, reference"):
        client.recover(Answer(np.zeros((3, *image.shape[1:]), dtype=np.float32)), receipt)


def test_the_algebra_needs_no_unmixer(tmp_path: Path):
    folder = phantoms.make_bundle(tmp_path, "mixup", rubbish=UNMIXER_FILE)
    half(open_client_half(folder), unmixing="algebraic")


def test_the_vault_never_sees_the_image(
    bundle: ClientBundle, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    vault = Vault.in_memory(KEY)
    seen = []
    generator = vault.generator
    monkeypatch.setattr(vault, "generator", lambda *parts: seen.append(parts) or generator(*parts))
    MixupClient(bundle, vault).protect(image, "anna")
    ((scheme, bundle_id, coefficient, content),) = seen
    assert (scheme, bundle_id, coefficient) == ("mixup", bundle.manifest.bundle_id, "0.5")
    expected = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest()
    assert content == expected
