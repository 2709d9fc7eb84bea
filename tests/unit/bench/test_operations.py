"""What a network computes is counted from its model."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from veilseg.bench.operations import operations
from veilseg.errors import InvalidInput


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
