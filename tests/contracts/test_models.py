"""Every shipped bundle verifies, is small, and carries nothing it should not."""

from pathlib import Path

import numpy as np
import pytest

from veilseg.bundle import open_client_half, open_server_half
from veilseg.client.pipeline import process
from veilseg.payload import Proxy
from veilseg.runtime import OnnxModel
from veilseg.schemes.encoding.client import MASK_ENCODER_FILE

MODELS = Path(__file__).resolve().parents[2] / "models"
NAMES = tuple(
    f"{data}-{scheme}"
    for data in ("brain-tissue", "hippocampus")
    for scheme in ("encoding", "mixup", "plain")
)
# Of the networks that segment, at the site and at the server; the self-test of a large tile comes
# on top, and a mask encoder, by which a site contributes to a fit.
LARGEST_NETWORKS_BYTES, LARGEST_BYTES = 6_000_000, 8_000_000


def test_these_bundles_are_shipped():
    assert sorted(path.name for path in MODELS.iterdir()) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_both_halves_verify_and_belong_together(name):
    client, server = open_client_half(MODELS / name), open_server_half(MODELS / name)
    assert client.manifest.bundle_id == server.manifest.bundle_id
    assert client.manifest.name == server.manifest.name == name
    assert client.manifest.licence in (MODELS / name / "README.md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_bundle_is_small_and_has_no_checkpoint(name):
    files = [path for path in (MODELS / name).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= LARGEST_BYTES
    segmenting = [path for path in files if path.name != MASK_ENCODER_FILE]
    networks = [path.stat().st_size for path in segmenting if path.suffix == ".onnx"]
    assert sum(networks) <= LARGEST_NETWORKS_BYTES
    assert not (MODELS / name / "weights").exists()


@pytest.mark.parametrize("name", NAMES)
def test_server_half_computes_its_selftest(name):
    client, server = open_client_half(MODELS / name), open_server_half(MODELS / name)
    model = OnnxModel(server.model_file)
    with np.load(server.selftest_file, allow_pickle=False) as selftest:
        proxy, expected = selftest["proxy"].astype(np.float32), selftest["answer"]
    if tiled := client.manifest.scheme == "encoding":
        proxy, expected = proxy[None], expected[None]
    sent = Proxy(proxy, tiled=tiled)
    answer = process(sent, client.manifest, lambda tile: model(proxy=tile[None])[0], None)
    # The expected answer is stored in steps of 1/64; the same runtime is off by half a step.
    np.testing.assert_allclose(answer.array, expected, atol=1 / 128 + 2e-3)


@pytest.mark.parametrize("name", [name for name in NAMES if "brain" in name])
def test_brain_weights_are_declared_non_commercial(name):
    assert "non-commercial" in open_client_half(MODELS / name).manifest.licence.lower()
