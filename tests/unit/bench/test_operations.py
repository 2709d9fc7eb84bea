"""What a network computes is counted from its model, as by hand and as torch counts."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import phantoms
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from veilseg.bench.operations import multiply_adds, multiply_adds_of_bundle, operations
from veilseg.errors import InvalidInput
from veilseg.networks.segmenter import Segmenter
from veilseg.training.export import export_onnx


@pytest.fixture
def exported(tmp_path: Path) -> Callable[[nn.Module, torch.Tensor], Path]:
    def export(network: nn.Module, tile: torch.Tensor) -> Path:
        export_onnx(network.eval(), tmp_path / "model.onnx", {"proxy": tile}, "answer")
        return tmp_path / "model.onnx"

    return export


def model(path: Path, nodes: list, weights: dict[str, tuple[int, ...]], shape: tuple) -> Path:
    def about(name: str, size: tuple | None) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, size)

    stored = [
        numpy_helper.from_array(np.ones(size, np.float32), name) for name, size in weights.items()
    ]
    last = nodes[-1].output[0]
    graph = helper.make_graph(nodes, "net", [about("x", shape)], [about(last, None)], stored)
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


def test_each_kind_is_counted_as_it_is_computed(tmp_path: Path):
    nodes = [
        helper.make_node("Conv", ["x", "same"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("LeakyRelu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "half"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("ConvTranspose", ["d", "rise"], ["e"], strides=[2, 2]),
    ]
    weights = {"same": (5, 3, 3, 3), "half": (4, 5, 3, 3), "rise": (4, 2, 2, 2)}
    found = operations(model(tmp_path / "m.onnx", nodes, weights, (1, 3, 8, 6)))
    same, half, rise = found.convolutions
    # Weights, times the places where each is used.
    assert same.multiply_adds == 5 * 3 * 9 * 48
    assert half.multiply_adds == 4 * 5 * 9 * 12
    assert rise.multiply_adds == 4 * 2 * 4 * 12
    assert (rise.in_channels, rise.out_channels, rise.out_grid) == (4, 2, (8, 6))
    assert found.multiply_adds == sum(one.multiply_adds for one in found.convolutions)
    assert (found.rectifiers, found.rectified) == (2, 5 * 48 + 4 * 12)
    assert found.costliest == same
    # A ciphertext for each voxel around a place and channel; a transposed one sees none.
    assert (same.products, rise.products) == (3 * 9 * 48, 4 * 12)


@pytest.mark.parametrize(
    ("nodes", "weights", "reason"),
    [
        (
            [helper.make_node("Conv", ["x", "w"], ["y"], group=2)],
            {"w": (2, 1, 1, 1)},
            "GroupConvolution is not counted",
        ),
        ([helper.make_node("Conv", ["x", "w"], ["y"])], {"w": (2, 2, 1, 1)}, "no convolution that"),
    ],
)
def test_what_is_not_counted_is_refused(tmp_path: Path, nodes, weights, reason):
    file = model(tmp_path / "m.onnx", nodes, weights, (1, 2, 4, 4))
    with pytest.raises(InvalidInput, match=reason):
        operations(file)


@pytest.mark.parametrize("dims", [2, 3])
def test_segmenter_costs_what_torch_counts(exported, dims):
    network, tile = Segmenter(dims, 1, 3), torch.rand(1, 1, *(32,) * dims)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(tile)
    # torch counts a multiplication and an addition as two.
    file = exported(network, tile)
    assert multiply_adds(file) == counter.get_total_flops() / 2
    assert operations(file).multiply_adds == multiply_adds(file)


@pytest.mark.parametrize(
    ("layer", "shape", "wanted"),
    [
        (nn.Conv2d(4, 6, 3, padding=1, groups=2), (1, 4, 8, 10), 6 * 8 * 10 * 2 * 9),
        (nn.Conv2d(4, 6, 3, stride=2), (1, 4, 9, 9), 6 * 4 * 4 * 4 * 9),
        (nn.ConvTranspose2d(4, 6, 2, stride=2), (1, 4, 8, 10), 4 * 8 * 10 * 6 * 4),
        (nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2), (1, 4, 8, 10), 4 * 8 * 10 * 3 * 4),
        (nn.Linear(5, 7), (1, 3, 5), 3 * 5 * 7),
        (nn.LeakyReLU(), (1, 4, 8, 10), 0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_layers_cost_what_one_counts_by_hand(exported, layer, shape, wanted):
    assert multiply_adds(exported(layer, torch.rand(shape))) == wanted


@pytest.mark.parametrize("across", [0, 1])
def test_products_with_a_turned_factor(tmp_path, across):
    node = helper.make_node("Gemm", ["x", "b"], ["c"], transA=across)
    shape = (5, 3) if across else (3, 5)
    assert multiply_adds(model(tmp_path / "m.onnx", [node], {"b": (5, 7)}, shape)) == 3 * 5 * 7


def test_a_bundle_costs_at_both_sides(tmp_path):
    plain, mixup = (
        multiply_adds_of_bundle(phantoms.make_bundle(tmp_path / scheme, scheme))
        for scheme in ("plain", "mixup")
    )
    voxels = math.prod(phantoms.TILE)
    assert plain == {"server": phantoms.CLASSES * voxels, "site": 0}
    # The phantoms' unmixer is algebra: it has no convolution.
    assert mixup == plain
