"""Public clients against our server, our client against it too, over real sockets."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from veilseg.bundle import ClientManifest, open_client_half
from veilseg.client.remote import RemoteServer
from veilseg.errors import BundleIntegrity, ServerRefused, ServerUnreachable


@pytest.fixture(scope="module")
def bundle(make_bundle: Callable[..., Path]) -> Path:
    return make_bundle()


@pytest.fixture(scope="module")
def server(start_server, make_bundle: Callable[..., Path], bundle: Path):
    """A server with a model that is ready and one that failed its self-test."""
    return start_server(bundle, make_bundle(name="broken", datatype="FP32", factor=0.5))


@pytest.fixture
def client(server) -> Iterator[triton.InferenceServerClient]:
    with contextlib.closing(triton.InferenceServerClient(server.address)) as client:
        yield client


def asked(tiles: np.ndarray, binary: bool = True, datatype: str = "FP16") -> list:
    given = triton.InferInput("proxy", list(tiles.shape), datatype)
    return [given.set_data_from_numpy(tiles, binary_data=binary)]


@pytest.fixture
def tiles(tile: np.ndarray) -> np.ndarray:
    return tile[np.newaxis].astype(np.float16)


@pytest.fixture
def expected(tiles: np.ndarray) -> np.ndarray:
    # The tile's values are exact in bfloat16, so that either precision is exact here.
    return np.concatenate([1 - tiles, tiles], axis=1)


def test_what_the_server_prints(server, bundle: Path):
    manifest = open_client_half(bundle).manifest
    good, broken = server.lines
    assert good.startswith(f"tiny 1.2.0 bundle {manifest.bundle_id[:12]} precision ")
    assert good.endswith(" tile 1x8x6x4")
    assert " NOT READY: self-test: the answer differs by 0.25" in broken


def test_health_and_metadata(client: triton.InferenceServerClient):
    assert client.is_server_live()
    # One of the two models failed, and the protocol calls a server ready if all models are.
    assert not client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert client.is_model_ready("tiny", "1.2.0")
    assert client.is_model_ready("tiny", "1")
    assert not client.is_model_ready("broken")
    assert not client.is_model_ready("other")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata("tiny")
    assert metadata["inputs"] == [{"name": "proxy", "datatype": "FP16", "shape": [-1, 1, 8, 6, 4]}]
    assert metadata["parameters"]["precision"] in ("bf16", "f32")


@pytest.mark.parametrize("binary_input", [True, False])
@pytest.mark.parametrize("output", [None, True, False])
@pytest.mark.parametrize(
    ("request_coding", "response_coding"), [(None, None), ("gzip", "deflate"), ("deflate", "gzip")]
)
def test_infer(
    client: triton.InferenceServerClient,
    tiles: np.ndarray,
    expected: np.ndarray,
    binary_input: bool,
    output: bool | None,
    request_coding: str | None,
    response_coding: str | None,
):
    outputs = (
        None if output is None else [triton.InferRequestedOutput("answer", binary_data=output)]
    )
    result = client.infer(
        "tiny",
        asked(tiles, binary_input),
        outputs=outputs,
        request_id="7",
        request_compression_algorithm=request_coding,
        response_compression_algorithm=response_coding,
    )
    answer = result.as_numpy("answer")
    assert answer.dtype == np.float16
    np.testing.assert_array_equal(answer, expected)
    assert result.get_response()["id"] == "7"
    assert ("data" in result.get_output("answer")) == (output is False)


def test_batches(client: triton.InferenceServerClient, tiles: np.ndarray, expected: np.ndarray):
    batch = np.concatenate([tiles, 1 - tiles])
    answer = client.infer("tiny", asked(batch), "1.2.0").as_numpy("answer")
    np.testing.assert_array_equal(answer, np.concatenate([expected, expected[:, ::-1]]))


def test_errors_reach_the_client(client: triton.InferenceServerClient, tiles: np.ndarray):
    floats = asked(tiles.astype(np.float32), datatype="FP32")
    for model, version, inputs, status, reason in (
        ("tiny", "", floats, "400", "datatype FP32 is not FP16"),
        ("tiny", "", asked(tiles[..., :2]), "400", "is not [n, 1, 8, 6, 4]"),
        ("tiny", "", asked(tiles * np.float16("nan")), "400", "NaN"),
        ("other", "", asked(tiles), "404", "unknown model 'other'"),
        ("tiny", "3", asked(tiles), "404", "unknown version '3' of model 'tiny'"),
        ("broken", "", floats, "503", "model broken is not ready"),
    ):
        with pytest.raises(InferenceServerException) as caught:
            client.infer(model, inputs, version)
        assert caught.value.status() == status
        assert reason in caught.value.message()
    many = np.repeat(tiles, 100, axis=0).astype(np.float32)
    with pytest.raises(InferenceServerException) as caught:
        client.infer("tiny", asked(np.repeat(many, 10, axis=0), datatype="FP32"))
    assert caught.value.status() == "413"


def test_our_client(server, bundle: Path, tile: np.ndarray, expected: np.ndarray):
    with RemoteServer(server.url, open_client_half(bundle).manifest) as remote:
        remote.check()
        assert remote.bytes_sent == 0
        np.testing.assert_array_equal(remote(tile), expected[0])
        assert remote.bytes_sent < tile.size * 2 + 400
        assert remote.bytes_received > expected.size * 2


def test_our_client_knows_a_stranger(server, bundle: Path, make_bundle: Callable[..., Path]):
    manifest = open_client_half(bundle).manifest
    other = open_client_half(make_bundle(factor=2.0)).manifest
    with RemoteServer(server.url, other) as remote, pytest.raises(BundleIntegrity):
        remote.check()
    with (
        RemoteServer(server.url, replace(manifest, version="9")) as remote,
        pytest.raises(ServerRefused, match="no model tiny in version 9"),
    ):
        remote.check()


def test_no_server(manifest: ClientManifest):
    with socket.socket() as bound:
        # Bound but not listening: nobody else takes the port, and nobody answers.
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with (
            RemoteServer(url, manifest, retries=1, timeout_s=1) as remote,
            pytest.raises(ServerUnreachable, match="Connection refused"),
        ):
            remote.check()
