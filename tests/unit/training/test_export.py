"""The exported model computes what was trained and tells nothing of the machine it was made on."""

import getpass
import socket
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from veilseg.errors import IntegrityError
from veilseg.runtime import OnnxModel
from veilseg.training import export
from veilseg.training.export import export_onnx

TILE = (1, 1, 16, 16, 16)


@pytest.fixture(scope="module")
def network(make_plain):
    torch.manual_seed(0)
    network = make_plain(3).server_network.eval()
    with torch.no_grad():  # confident answers, as after training: FP16 weights then move them most
        for parameter in network.parameters():
            parameter.mul_(1.5)
    return network


@pytest.fixture(scope="module")
def model(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    export_onnx(network, path, {"proxy": torch.rand(TILE)}, "answer", wire=True)
    return path


def test_wire_model_agrees_with_torch(network, model):
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    for seed in range(3):
        proxy = np.random.default_rng(seed).random(TILE).astype(np.float16)
        found = session.run(["answer"], {"proxy": proxy})[0]
        assert found.dtype == np.float16
        with torch.no_grad():
            expected = network(torch.from_numpy(proxy.astype(np.float32))).numpy()
        np.testing.assert_allclose(found, expected, atol=0.02)
        np.testing.assert_allclose(found.astype(np.float32).sum(axis=1), 1, atol=5e-3)


def test_wire_tensors_have_fixed_shapes_and_names(model):
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    (given,), (answer,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == ("proxy", "tensor(float16)", list(TILE))
    assert (answer.name, answer.type, answer.shape) == (
        "answer",
        "tensor(float16)",
        [1, 3, 16, 16, 16],
    )


def test_weights_take_two_bytes(network, model):
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert model.stat().st_size < 2 * parameters * 1.15 + 100_000
    assert {path.name for path in model.parent.iterdir()} == {"model.onnx"}


def test_file_names_no_folder_and_no_person(model):
    content = model.read_bytes()
    names = {str(Path.cwd()), str(Path.home()), "site-packages", ".py", "/tmp", "/usr", "\\Users"}
    names |= {str(Path(__file__).parents[3]), socket.gethostname()}
    if len(getpass.getuser()) > 4:  # "root" may be part of an operator's name
        names.add(getpass.getuser())
    found = [name for name in names if name.encode() in content]
    assert found == []
    graph = onnx.load(model).graph
    assert not any(node.doc_string or node.metadata_props for node in graph.node)


def test_same_weights_give_the_same_file(network, model, tmp_path):
    again = tmp_path / "again.onnx"
    export_onnx(network, again, {"proxy": torch.rand(TILE)}, "answer", wire=True)
    assert again.read_bytes() == model.read_bytes()


class Difference(torch.nn.Module):
    def forward(self, first, second):
        return first - second


def test_inputs_that_share_a_tensor_are_refused(tmp_path):
    # The exporter would trace them as one, and the model would ignore the second name.
    maps = torch.full((1, 2, 4, 4), 0.5)
    with pytest.raises(ValueError, match="share memory"):
        export_onnx(Difference(), tmp_path / "x.onnx", {"first": maps, "second": maps}, "found")


class Both(torch.nn.Module):
    """Two outputs, the second of which no two computations may have alike."""

    def __init__(self, sound):
        super().__init__()
        self.sound = sound

    def forward(self, first):
        part = first[:, :1]
        return 2 * first, part if self.sound else torch.rand_like(part)


def test_every_output_is_compared(tmp_path):
    given = {"first": torch.rand(1, 2, 4, 4)}
    export_onnx(Both(sound=True), tmp_path / "x.onnx", given, "whole", "part")
    whole, part = OnnxModel(tmp_path / "x.onnx").all(first=given["first"].numpy())
    assert (whole.shape, part.shape) == ((1, 2, 4, 4), (1, 1, 4, 4))
    with pytest.raises(IntegrityError, match="off the trained one"):
        export_onnx(Both(sound=False), tmp_path / "x.onnx", given, "whole", "part")


class Forgetful(torch.nn.Module):
    """Traces as another function than it computes: what only varied inputs can show."""

    def forward(self, first):
        return first if torch.compiler.is_exporting() else 2 * first - first.mean()


def test_wrong_graph_is_found_though_it_is_right_on_the_given_inputs(tmp_path):
    constant = torch.full((1, 1, 4, 4), 0.5)
    with pytest.raises(IntegrityError, match="off the trained one"):
        export_onnx(Forgetful(), tmp_path / "x.onnx", {"first": constant}, "found")


def test_model_that_does_not_compute_what_was_trained_is_refused(network, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "LARGEST_DEVIATION", 1e-9)
    with pytest.raises(IntegrityError, match="off the trained one"):
        export_onnx(network, tmp_path / "x.onnx", {"proxy": torch.rand(TILE)}, "answer", wire=True)


def test_weights_that_lose_too_much_by_rounding_are_refused(network, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "LARGEST_MEAN_DEVIATION", 1e-9)
    with pytest.raises(IntegrityError, match="FP16 weights are"):
        export_onnx(network, tmp_path / "x.onnx", {"proxy": torch.rand(TILE)}, "answer", wire=True)
