"""Multiply-adds of graphs, against counts by hand and by torch."""

import math
from collections.abc import Callable
from pathlib import Path

import onnx
import phantoms
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from veilseg.bench.evidence.operations import multiply_adds, of_bundle
from veilseg.networks.segmenter import Segmenter
from veilseg.training.export import export_onnx


@pytest.fixture
def exported(tmp_path: Path) -> Callable[[nn.Module, torch.Tensor], onnx.ModelProto]:
    def export(network: nn.Module, tile: torch.Tensor) -> onnx.ModelProto:
        export_onnx(network.eval(), tmp_path / "model.onnx", {"proxy": tile}, "answer")
        return onnx.load(str(tmp_path / "model.onnx"))

    return export


@pytest.mark.parametrize("dims", [2, 3])
def test_segmenter_costs_what_torch_counts(exported, dims):
    network, tile = Segmenter(dims, 1, 3), torch.rand(1, 1, *(32,) * dims)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(tile)
    # torch counts a multiplication and an addition as two.
    assert multiply_adds(exported(network, tile)) == counter.get_total_flops() / 2


@pytest.mark.parametrize(
    ("layer", "shape", "wanted"),
    [
        (nn.Conv2d(4, 6, 3, padding=1, groups=2), (1, 4, 8, 10), 6 * 8 * 10 * 2 * 9),
        (nn.Conv2d(4, 6, 3, stride=2), (1, 4, 9, 9), 6 * 4 * 4 * 4 * 9),
        (nn.ConvTranspose2d(4, 6, 2, stride=2), (1, 4, 8, 10), 4 * 8 * 10 * 6 * 4),
        (nn.Linear(5, 7), (1, 3, 5), 3 * 5 * 7),
        (nn.LeakyReLU(), (1, 4, 8, 10), 0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_layers_cost_what_one_counts_by_hand(exported, layer, shape, wanted):
    assert multiply_adds(exported(layer, torch.rand(shape))) == wanted


@pytest.mark.parametrize("across", [0, 1])
def test_products_with_a_turned_factor(across):
    node = helper.make_node("Gemm", ["a", "b"], ["c"], transA=across)
    left = [5, 3] if across else [3, 5]
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in {"a": left, "b": [5, 7], "c": [3, 7]}.items()
    }
    graph = helper.make_graph([node], "product", [values["a"], values["b"]], [values["c"]])
    assert multiply_adds(helper.make_model(graph)) == 3 * 5 * 7


def test_a_bundle_costs_at_both_sides(tmp_path):
    plain, mixup = (
        of_bundle(phantoms.make_bundle(tmp_path / scheme, scheme)) for scheme in ("plain", "mixup")
    )
    voxels = math.prod(phantoms.TILE)
    assert plain == {"server": phantoms.CLASSES * voxels, "site": 0}
    # The phantoms' unmixer is algebra: it has no convolution.
    assert mixup == plain
