"""Multiply-adds of exported networks, counted from their graphs without computing anything."""

import math
from pathlib import Path
from typing import Final

import onnx
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper, shape_inference

from veilseg.bundle import open_client_half, open_server_half

Shape = list[int]

# Pooling, norms, activations and sums are linear in the voxels, without a factor of the channels.
COUNTED: Final = ("Conv", "ConvTranspose", "MatMul", "Gemm")


def of_bundle(folder: Path) -> dict[str, int]:
    """Multiply-adds of one tile: at the server, and at the site.

    Raises
    ------
    InvalidInput, IntegrityError
        If a half of the bundle is missing or damaged.
    """
    client, server = open_client_half(folder), open_server_half(folder)
    at_site = [client.file(name) for name in client.manifest.files if name.endswith(".onnx")]
    return {
        "server": multiply_adds(onnx.load(str(server.model_file))),
        "site": sum(multiply_adds(onnx.load(str(file))) for file in at_site),
    }


def multiply_adds(model: ModelProto) -> int:
    """Of convolutions and matrix products, for inputs of the shape that the model fixes."""
    graph = shape_inference.infer_shapes(model).graph
    shapes = {weight.name: list(weight.dims) for weight in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            shapes[node.output[0]] = _constant_shape(node)
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = [side.dim_value for side in value.type.tensor_type.shape.dim]
    return sum(_of(node, shapes) for node in graph.node if node.op_type in COUNTED)


def _of(node: NodeProto, shapes: dict[str, Shape]) -> int:
    first, second, out = (shapes[name] for name in (*node.input[:2], node.output[0]))
    if node.op_type == "Conv":  # weights: (out, in / groups, *kernel)
        return math.prod(out) * math.prod(second[1:])
    if node.op_type == "ConvTranspose":  # weights: (in, out / groups, *kernel)
        return math.prod(first) * math.prod(second[1:])
    across = _attribute(node, "transA") if node.op_type == "Gemm" else 0
    return math.prod(out) * first[-2 if across else -1]


def _attribute(node: NodeProto, name: str) -> int:
    return next((one.i for one in node.attribute if one.name == name), 0)


def _constant_shape(node: NodeProto) -> Shape:
    (value,) = [one for one in node.attribute if one.name.startswith("value")]
    if not isinstance(value.t, TensorProto) or not value.HasField("t"):
        return []
    return list(numpy_helper.to_array(value.t).shape)
