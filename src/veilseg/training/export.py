"""From torch to ONNX, FP16 on disk and on the wire, verified against what was trained."""

import logging
import warnings
from copy import deepcopy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from veilseg.errors import IntegrityError

# Initialisers below this size stay FP32: shapes, scalars and norms gain nothing from FP16.
SMALLEST_HALVED = 256
# Of any value, from the network with its weights rounded alike: only the wire's FP16 is left, and
# sums in another order. As a share of its range where that is larger than 1.
LARGEST_DEVIATION = 0.005
# On average, from the network as it was trained: what rounding its weights costs.
LARGEST_MEAN_DEVIATION = 0.005
# Ending of an initialiser's name that is stored as FP16.
HALVED = ".fp16"
OPSET = 18


def export_onnx(
    network: nn.Module,
    path: Path,
    inputs: dict[str, Tensor],
    *outputs: str,
    wire: bool = False,
) -> None:
    """Export a network at fixed shapes with FP16 weights and compare it with torch.

    Parameters
    ----------
    network : nn.Module
    path : Path
    inputs : dict of Tensor, float32
        By input name, in the order of ``forward``. Torch and the exported model are compared on
        them and on noise of their shapes: constant maps alone would hide a wrong graph.
    outputs : str
        Of each tensor that ``forward`` gives.
    wire : bool
        Inputs and output are FP16 tensors, cast inside the model.

    Raises
    ------
    IntegrityError
        If ONNX Runtime and torch differ by more than the tolerance at the same rounded weights, or
        rounding the weights moves the output by more than its own, on average.
    """
    if len({tensor.data_ptr() for tensor in inputs.values()}) < len(inputs):
        raise ValueError("inputs share memory: they would be traced as one")
    network = network.eval().float().cpu()
    module: nn.Module = _OnWire(network) if wire else network
    arguments = tuple(t.half() if wire else t for t in inputs.values())
    # The exporter logs which packages it could also have used.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # The exporter warns of its own internals.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            arguments,
            dynamo=True,
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=OPSET,
            verbose=False,
        )
    if program is None:
        raise IntegrityError(f"{path}: torch gave no ONNX program")
    model = program.model_proto
    _halve_weights(model)
    # The exporter records source lines and folder names of the machine; a bundle has none.
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    del model.graph.metadata_props[:], model.metadata_props[:], model.graph.value_info[:]
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    noise = [0.1 + 0.8 * torch.rand(t.shape, generator=generator) for t in inputs.values()]
    rounded = _rounded(network)
    for values in (list(inputs.values()), noise):
        sent = [value.half() if wire else value for value in values]
        with torch.no_grad():
            given = [value.float() for value in sent]
            expected, trained = (_listed(one(*given)) for one in (rounded, network))
        feeds = {name: value.numpy() for name, value in zip(inputs, sent, strict=True)}
        found = session.run(list(outputs), feeds)
        for one in zip(found, expected, trained, strict=True):
            _require_alike(path, *one)


def _listed(given: Tensor | tuple[Tensor, ...]) -> list[NDArray[np.float32]]:
    return [one.numpy() for one in (given if isinstance(given, tuple) else (given,))]


def _require_alike(
    path: Path,
    exported: NDArray[np.floating],
    expected: NDArray[np.float32],
    trained: NDArray[np.float32],
) -> None:
    found = exported.astype(np.float32)
    deviation = float(np.abs(found - expected).max())
    scale = max(1.0, float(np.abs(expected).max()))
    if found.shape != expected.shape or not deviation <= LARGEST_DEVIATION * scale:
        raise IntegrityError(f"{path}: the exported model is {deviation:.3g} off the trained one")
    cost = float(np.abs(found - trained).mean())
    if not cost <= LARGEST_MEAN_DEVIATION * scale:
        raise IntegrityError(f"{path}: FP16 weights are {cost:.3g} off the trained ones")


class _OnWire(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, proxy: Tensor) -> Tensor:
        answer: Tensor = self.network(proxy.float()).half()
        return answer


def _rounded(network: nn.Module) -> nn.Module:
    """The network with the weights that are stored as FP16 rounded to it."""
    copy = deepcopy(network)
    with torch.no_grad():
        for weight in copy.parameters():
            if weight.numel() >= SMALLEST_HALVED:
                weight.copy_(weight.half().float())
    return copy


def _halve_weights(model: onnx.ModelProto) -> None:
    """Store large FP32 initialisers as FP16 behind a Cast: half the size, same graph."""
    graph = model.graph
    casts = []
    for index, initializer in enumerate(graph.initializer):
        array: NDArray[np.float32] = numpy_helper.to_array(initializer)
        if initializer.data_type != TensorProto.FLOAT or array.size < SMALLEST_HALVED:
            continue
        name = initializer.name
        halved = numpy_helper.from_array(array.astype(np.float16), f"{name}{HALVED}")
        graph.initializer[index].CopyFrom(halved)
        casts.append(
            helper.make_node(
                "Cast",
                [halved.name],
                [name],
                name=f"{name}.cast",
                to=TensorProto.FLOAT,
            )
        )
    for cast in reversed(casts):
        graph.node.insert(0, cast)
