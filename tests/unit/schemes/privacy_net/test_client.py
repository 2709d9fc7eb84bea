"""The site's half of ``privacy_net``: one encoding per image, whatever its size."""

import numpy as np
import phantoms
import pytest
import torch
from torch import nn

from veilseg.bundle import open_client_half, open_server_half, seal
from veilseg.errors import BundleIntegrity, GeometryMismatch, WrongUsage
from veilseg.networks.image_encoder import ImageEncoder
from veilseg.payload import Answer
from veilseg.schemes.privacy_net.client import ENCODER_FILE, PrivacyNetClient
from veilseg.training.export import export_onnx

TILE = phantoms.TILE[:2]


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = phantoms.make_bundle(
        tmp_path_factory.mktemp("privacy_net") / "b", "privacy_net", spatial_dims=2, strength=1.0
    )
    manifest = open_client_half(folder).manifest
    torch.manual_seed(0)
    image = {"image": torch.rand(1, 1, *TILE)}
    network = nn.Sequential(ImageEncoder(2, 1))
    export_onnx(network, folder / "client" / ENCODER_FILE, image, "encoded")
    seal(folder, manifest, open_server_half(folder).manifest)
    return PrivacyNetClient(open_client_half(folder))


def test_image_has_one_encoding_whoever_it_is_of(client):
    image = np.random.default_rng(0).random((1, *TILE), dtype=np.float32)
    proxy, receipt = client.protect(image, "anna")
    assert client.protect(image, "berta")[0].digest() == proxy.digest()
    assert proxy.array.shape == image.shape
    assert ((proxy.array > 0) & (proxy.array < 1)).all()
    assert np.abs(proxy.array - image).mean() > 0.05
    answer = np.random.default_rng(1).random((3, *TILE), dtype=np.float32)
    assert client.recover(Answer(answer), receipt) is answer


def test_larger_image_is_encoded_in_tiles_on_its_own_grid(client):
    image = np.random.default_rng(0).random((1, 40, 19), dtype=np.float32)
    proxy, _ = client.protect(image, "anna")
    assert proxy.array.shape == image.shape
    # The corner is of the first tile alone.
    corner = client.protect(image[:, :16, :16], "anna")[0].array
    np.testing.assert_allclose(proxy.array[:, :4, :3], corner[:, :4, :3], atol=1e-5)


def test_there_is_nothing_to_average(client):
    with pytest.raises(WrongUsage, match="--mixtures: privacy_net mixes nothing"):
        client.protect(np.zeros((1, *TILE), np.float32), "anna", 1)


def test_image_of_other_channels(client):
    with pytest.raises(GeometryMismatch, match="image with 2 channels; the bundle takes 1"):
        client.protect(np.zeros((2, *TILE), np.float32), "anna")


def test_bundle_without_an_encoder(tmp_path):
    bare = phantoms.make_bundle(tmp_path / "b", "privacy_net", spatial_dims=2, strength=1.0)
    with pytest.raises(BundleIntegrity, match=r"files: encoder\.onnx is not listed"):
        PrivacyNetClient(open_client_half(bare))
