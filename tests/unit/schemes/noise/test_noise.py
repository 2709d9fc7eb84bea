"""Noise at a site: by key and content, and what it leaves, in closed form."""

import pickle
from dataclasses import replace

import numpy as np
import phantoms
import pytest

from veilseg.bundle import ClientBundle, open_client_half
from veilseg.errors import BundleIntegrity, GeometryMismatch
from veilseg.payload import Answer
from veilseg.schemes.noise.adding import with_noise
from veilseg.schemes.noise.client import NoiseClient
from veilseg.schemes.noise.leakage import epsilon, hidden_share
from veilseg.vault.vault import Vault

SHAPE = (1, 24, 20, 16)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("noise")
    return open_client_half(phantoms.make_bundle(folder / "b", "noise", strength=0.3))


@pytest.fixture
def client(bundle):
    return lambda key=1: NoiseClient(bundle, Vault.in_memory(bytes([key]) * 32))


@pytest.fixture
def image():
    return np.random.default_rng(0).random(SHAPE, dtype=np.float32)


def test_noise_is_that_of_the_key_and_the_image(client, image):
    proxy, _ = client().protect(image, "anna")
    assert client().protect(image, "berta")[0].digest() == proxy.digest()
    others = (
        client(2).protect(image, "anna")[0],
        client().protect(np.roll(image, 1), "anna")[0],
        client().protect(image, "anna", 1)[0],
    )
    own = (proxy.array - image).ravel()
    for other in others[::2]:
        # Correlation of independent noise: a standard deviation of 1/√7680.
        assert abs(np.corrcoef(own, (other.array - image).ravel())[0, 1]) < 5 / np.sqrt(own.size)
    assert len({one.digest() for one in (proxy, *others)}) == 4


def test_noise_has_the_strength_that_is_told_everywhere(client, image):
    image[:, :12] = 0  # what is empty is hidden as well
    noise = client().protect(image, "anna")[0].array - image
    for part in (noise[:, :12], noise[:, 12:]):
        # Of the standard deviation of n numbers: σ/√(2n).
        assert part.std() == pytest.approx(0.3, abs=5 * 0.3 / np.sqrt(2 * part.size))
        assert part.mean() == pytest.approx(0, abs=5 * 0.3 / np.sqrt(part.size))


def test_answer_is_the_segmentation(client, image):
    _, receipt = client().protect(image, "anna")
    maps = np.random.default_rng(1).random((3, *SHAPE[1:]), dtype=np.float32)
    assert client().recover(Answer(maps), receipt) is maps
    with pytest.raises(TypeError, match="never leaves the site"):
        pickle.dumps(receipt)


def test_image_of_other_channels(client):
    with pytest.raises(GeometryMismatch, match="image with 2 channels; the bundle takes 1"):
        client().protect(np.zeros((2, 16, 16, 16), np.float32), "anna")


@pytest.mark.parametrize("settings", [{}, {"strength": 0.0}, {"strength": "much"}])
def test_bundle_without_a_strength(bundle, settings):
    broken = ClientBundle(bundle.folder, replace(bundle.manifest, settings=settings))
    with pytest.raises(BundleIntegrity, match=r"manifest\.json: settings: no strength"):
        NoiseClient(broken, Vault.in_memory(bytes(32)))


@pytest.mark.parametrize("proxies", [1, 4])
def test_best_linear_attacker_leaves_what_the_closed_form_says(proxies):
    rng = np.random.default_rng(2)
    deviation, strength, size = 0.2, 0.3, 200_000
    image = (deviation * rng.standard_normal(size)).astype(np.float32)
    seen = np.mean([with_noise(image, strength, rng) for _ in range(proxies)], axis=0)
    slope = np.cov(image, seen)[0, 1] / seen.var()
    left = (image - slope * seen).var() / image.var()
    # Of a variance of n numbers: a relative standard deviation of √(2/n), here 0.3 %.
    assert left == pytest.approx(hidden_share(strength, deviation, proxies), rel=0.02)


def test_epsilon_is_that_of_the_analytic_gaussian_mechanism():
    # method.md §5: half of an image of 128² pixels, that is 64² values, ε = 8, δ = 1e-5: σ = 38.4.
    assert epsilon(38.4, 64**2) == pytest.approx(8, abs=0.01)
    assert epsilon(0.3, 64**2) > 10_000
    assert epsilon(1e9, 64**2) == 0
