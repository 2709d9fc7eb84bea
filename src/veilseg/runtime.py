"""Networks at the site: named arrays in, an array out.

ONNX Runtime is always there and the default. OpenVINO, where it is installed and asked for, is
faster and rounds otherwise; it takes longer to start.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime

from veilseg.errors import BundleIntegrity, GeometryMismatch, MissingDependency, WrongUsage
from veilseg.payload import Float32Array


class Model(Protocol):
    """A network with one output."""

    def __call__(self, **inputs: Float32Array) -> Float32Array:
        """Run on float32 arrays, batch axis included; returns float32.

        Raises
        ------
        BundleIntegrity
            If the model takes inputs of other names.
        GeometryMismatch
            If an array does not have the model's shape.
        """
        ...


Load = Callable[[Path], Model]


class OnnxModel:
    """A model file in ONNX Runtime, in FP32.

    Parameters
    ----------
    path : Path
        Verified by its bundle before it gets here.

    Raises
    ------
    BundleIntegrity
        If ONNX Runtime cannot load it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # warnings are about graphs a user cannot change
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            # ONNX Runtime raises classes of its extension module that share no public base.
            raise BundleIntegrity(f"{path}: not a model this runtime can load") from error
        self._shapes = {node.name: tuple(node.shape) for node in self._session.get_inputs()}
        self._half = {n.name for n in self._session.get_inputs() if n.type == "tensor(float16)"}

    def __call__(self, **inputs: Float32Array) -> Float32Array:
        """As :class:`Model`; of several outputs the first."""
        return self.all(**inputs)[0]

    def all(self, **inputs: Float32Array) -> list[Float32Array]:
        """All outputs. Raises as :class:`Model`."""
        _require_fitting(self._path, self._shapes, inputs)
        feeds = {
            name: array.astype(np.float16 if name in self._half else np.float32, copy=False)
            for name, array in inputs.items()
        }
        return [np.asarray(one, dtype=np.float32) for one in self._session.run(None, feeds)]


class OpenVinoModel:
    """A model file in OpenVINO, in bf16 where the processor computes in it.

    Parameters
    ----------
    path : Path
        Verified by its bundle before it gets here.

    Raises
    ------
    BundleIntegrity
        If OpenVINO cannot load it.
    MissingDependency
        If it is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            import openvino
        except ImportError as error:
            raise MissingDependency(
                "openvino: not installed: pip install 'veilseg[fast]'"
            ) from error

        self._path = path
        try:
            compiled = openvino.Core().compile_model(path, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
            self._types = {port.any_name: port.element_type.to_dtype() for port in compiled.inputs}
            self._shapes = {port.any_name: tuple(port.shape) for port in compiled.inputs}
        except RuntimeError as error:
            raise BundleIntegrity(f"{path}: not a model this runtime can load") from error
        self._request: Any = compiled.create_infer_request()

    def __call__(self, **inputs: Float32Array) -> Float32Array:
        """As :class:`Model`."""
        _require_fitting(self._path, self._shapes, inputs)
        feeds = {
            name: np.ascontiguousarray(array, dtype=self._types[name])
            for name, array in inputs.items()
        }
        # Copied out of the request before the next run uses its memory again.
        found = self._request.infer(feeds, share_inputs=True, share_outputs=False)
        return np.asarray(found[0], dtype=np.float32)


RUNTIMES: dict[str, Load] = {"onnxruntime": OnnxModel, "openvino": OpenVinoModel}


def runtime(name: str) -> Load:
    """A way to open models, by name.

    Raises
    ------
    WrongUsage
        If there is none of that name.
    """
    if name not in RUNTIMES:
        raise WrongUsage(f"--runtime {name}: choose one of {', '.join(RUNTIMES)}")
    return RUNTIMES[name]


def _require_fitting(
    path: Path, shapes: dict[str, tuple[int, ...]], inputs: dict[str, Float32Array]
) -> None:
    if inputs.keys() != shapes.keys():
        raise BundleIntegrity(
            f"{path}: takes {', '.join(sorted(shapes))}, not {', '.join(sorted(inputs))}"
        )
    for name, array in inputs.items():
        if array.shape != shapes[name]:
            raise GeometryMismatch(f"{name}: shape {array.shape}, the model takes {shapes[name]}")
