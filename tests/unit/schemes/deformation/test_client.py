"""The site's half of ``deformation``: whose field it is, and that an ideal answer comes back."""

import pickle

import numpy as np
import phantoms
import pytest
import torch
from torch import nn

from veilseg.bundle import open_client_half, open_server_half, seal
from veilseg.errors import BundleIntegrity, GeometryMismatch
from veilseg.payload import Answer
from veilseg.schemes.deformation.client import GENERATOR_FILE, DeformationClient
from veilseg.schemes.deformation.field import code_shape
from veilseg.schemes.deformation.generator import VelocityGenerator
from veilseg.training.export import export_onnx
from veilseg.vault.vault import Vault

SHAPE = (28, 24, 20)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = phantoms.make_bundle(
        tmp_path_factory.mktemp("deformation") / "b", "deformation", strength=0.04
    )
    manifest = open_client_half(folder).manifest  # as it was sealed before a file is added
    torch.manual_seed(0)
    network = nn.Sequential(VelocityGenerator(3, 0.04))
    code = {"code": torch.randn(1, *code_shape(3))}
    export_onnx(network, folder / "client" / GENERATOR_FILE, code, "velocity")
    seal(folder, manifest, open_server_half(folder).manifest)
    return open_client_half(folder)


@pytest.fixture
def client(bundle):
    return lambda key=1: DeformationClient(bundle, Vault.in_memory(bytes([key]) * 32))


@pytest.fixture
def image():
    return phantoms.one_hot(phantoms.truth(SHAPE))[1:2] * np.float32(0.8)


def test_field_is_that_of_the_key_and_the_subject(client, image):
    proxy, receipt = client().protect(image, "anna")
    again, _ = client().protect(image, "anna")
    assert again.digest() == proxy.digest() != client().protect(image, "berta")[0].digest()
    others = [
        client().protect(image, "berta")[1],
        client(2).protect(image, "anna")[1],
        client().protect(image, "anna", 1)[1],
    ]
    own = receipt.velocity.ravel()
    for other in others:
        # Smooth fields have few degrees of freedom: some hundred of 1,536 numbers.
        assert abs(np.corrcoef(own, other.velocity.ravel())[0, 1]) < 0.5
    # Another image of the same subject is deformed alike.
    _, later = client().protect(np.roll(image, 1), "anna")
    np.testing.assert_array_equal(later.coordinates, receipt.coordinates)


def test_recovered_is_what_a_right_server_would_have_said_of_the_image(client):
    labels = phantoms.truth(SHAPE)
    image = np.array(phantoms.CENTRES, dtype=np.float32)[labels][None]
    proxy, receipt = client().protect(image, "anna")
    assert np.abs(proxy.array - image).mean() > 0.01
    found = client().recover(Answer(phantoms.nearest_centre(proxy.array)), receipt)
    truth = labels == 2
    core = found.argmax(axis=0) == 2
    assert 2 * (core & truth).sum() / (core.sum() + truth.sum()) > 0.95


def test_image_and_answer_of_other_shapes(client, image):
    with pytest.raises(GeometryMismatch, match="image with 2 channels and 3 axes; the bundle"):
        client().protect(np.concatenate([image, image]), "anna")
    with pytest.raises(GeometryMismatch, match="1 channels and 2 axes; the bundle takes 1 and 3"):
        client().protect(image[..., 0], "anna")
    _, receipt = client().protect(image, "anna")
    with pytest.raises(GeometryMismatch, match=r"answer of shape .*; expected \(3, 28, 24, 20\)"):
        client().recover(Answer(image), receipt)


def test_receipt_is_the_secret_and_no_other_will_do(client, image):
    _, receipt = client().protect(image, "anna")
    assert "redacted" in repr(receipt)
    with pytest.raises(TypeError, match="never leaves the site"):
        pickle.dumps(receipt)
    with pytest.raises(TypeError, match="a DeformationReceipt is needed"):
        client().recover(Answer(image), object())


def test_bundle_without_a_generator(tmp_path):
    bare = phantoms.make_bundle(tmp_path / "b", "deformation", strength=0.04)
    with pytest.raises(BundleIntegrity, match=r"files: generator\.onnx is not listed"):
        DeformationClient(open_client_half(bare), Vault.in_memory(bytes(32)))
