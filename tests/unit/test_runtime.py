"""The site's networks in both runtimes."""

import sys

import numpy as np
import pytest

from veilseg.bundle import open_server_half
from veilseg.errors import BundleIntegrity, GeometryMismatch, MissingDependency, WrongUsage
from veilseg.runtime import OnnxModel, OpenVinoModel, runtime


@pytest.fixture(params=["FP16", "FP32"])
def file(request, make_bundle):
    return open_server_half(make_bundle(datatype=request.param)).model_file


@pytest.mark.parametrize("kind", [OnnxModel, OpenVinoModel])
def test_network_is_computed(kind, file, tile):
    # The tile is exact in bfloat16, and so is one minus it.
    found = kind(file)(proxy=tile[None])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[0], np.concatenate([1 - tile, tile]))


def test_an_answer_stays_what_it_was(file, tile):
    model = OpenVinoModel(file)
    first = model(proxy=tile[None])
    before = first.copy()
    model(proxy=np.zeros_like(tile)[None])
    np.testing.assert_array_equal(first, before)


@pytest.mark.parametrize("kind", [OnnxModel, OpenVinoModel])
def test_wrong_inputs(kind, file, tile):
    model = kind(file)
    with pytest.raises(BundleIntegrity, match="takes proxy, not image"):
        model(image=tile[None])
    with pytest.raises(GeometryMismatch, match="proxy: shape"):
        model(proxy=tile)


@pytest.mark.parametrize("kind", [OnnxModel, OpenVinoModel])
def test_no_model(kind, tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(b"no model")
    with pytest.raises(BundleIntegrity, match=r"model.onnx: not a model this runtime can load"):
        kind(file)


def test_openvino_that_is_not_installed(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependency, match=r"openvino: not installed: pip install"):
        runtime("openvino")(file)


def test_runtime_of_another_name():
    with pytest.raises(WrongUsage, match="--runtime torch: choose one of onnxruntime, openvino"):
        runtime("torch")
