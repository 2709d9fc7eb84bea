"""ONNX exports of networks that differ in their weights alone, made once."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import onnx
from onnx import numpy_helper
from torch import Tensor, nn


class RememberedExports:
    """``torch.onnx.export``, which takes most of the time of a training of a few steps.

    A network of the same layers and inputs has the same graph, into which the weights of the next
    one are put. Each bundle is still compared with its torch network where it is exported, so that
    a graph that did not fit would be found.
    """

    def __init__(self, export: Callable[..., Any]) -> None:
        self._export = export
        self._models: dict[tuple[object, ...], onnx.ModelProto] = {}

    def __call__(self, module: nn.Module, arguments: tuple[Tensor, ...], **options: Any) -> Any:
        """What ``torch.onnx.export`` gives, as far as the package looks at it."""
        given = tuple((tuple(one.shape), one.dtype) for one in arguments)
        key = repr(module), given, repr(options)
        state = module.state_dict()
        if key not in self._models:
            program = self._export(module, arguments, **options)
            kept = {one.name for one in program.model_proto.graph.initializer}
            # A part that is reached in two ways has two names, of which one is kept.
            found = {one.data_ptr() for name, one in state.items() if name in kept}
            if not {one.data_ptr() for one in state.values()} <= found:
                return program  # the exporter has folded or merged some: the graph is this one's
            self._models[key] = onnx.ModelProto()
            self._models[key].CopyFrom(program.model_proto)
        model = onnx.ModelProto()
        model.CopyFrom(self._models[key])
        for initializer in model.graph.initializer:
            name = initializer.name
            if name in state:
                initializer.CopyFrom(numpy_helper.from_array(state[name].numpy(), name))
        return SimpleNamespace(model_proto=model)
