"""What computes a network: what is asked of it, and OpenVINO, compiled for one tile shape."""

import queue
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np
import openvino as ov

from veilseg.bundle import TensorSpec
from veilseg.errors import InvalidInput
from veilseg.wire.tensors import DTYPES, FloatArray

DEVICE: Final = "CPU"
Precision = Literal["bf16", "f32", "auto"]
# OpenVINO takes the short names and gives back the long ones.
_EFFECTIVE_NAMES: Final = {"bfloat16": "bf16", "float32": "f32"}


@dataclass(frozen=True)
class Sizing:
    """How a network takes up a machine.

    Attributes
    ----------
    batch_size : int
        Tiles of every batch.
    streams : int
        Batches that are computed side by side.
    threads : int
        Of all streams together; 0 leaves it to the runtime: as many as there are cores.
    """

    batch_size: int = 1
    streams: int = 1
    threads: int = 0


class Runtime(Protocol):
    """A compiled network."""

    @property
    def precision(self) -> str:
        """What the arithmetic is done in: ``bf16`` or ``f32``."""
        ...

    @property
    def streams(self) -> int:
        """How many threads may run batches at a time."""
        ...

    def run(self, batch: FloatArray) -> FloatArray:
        """Process one batch, (B, C, X, Y, Z) to (B, K, X, Y, Z), in wire dtypes."""
        ...

    def close(self) -> None:
        """Give back what it took; it is not used any more."""
        ...


class OpenVinoRuntime:
    """A network compiled by OpenVINO for this machine's CPU.

    Parameters
    ----------
    model_file : Path
        ONNX with input ``proxy`` and output ``answer`` of fixed shape.
    proxy, answer : TensorSpec
        What the bundle's manifest promises; the file has to keep it.
    precision : {"bf16", "f32", "auto"}
        Arithmetic inside the network. OpenVINO by itself would silently compute in bf16 on
        some machines and in f32 on others; here ``auto`` does so, and says which.
    sizing : Sizing
        One batch size is compiled, since other shapes may be computed by other kernels, whose
        rounding differs. As many threads as there are streams may :meth:`run` at a time.

    Raises
    ------
    InvalidInput
        If the precision is unknown or this CPU does not have it, the model's tensors are not
        the manifest's, or it takes one tile at a time only.
    RuntimeError
        If OpenVINO cannot read or compile the file.
    """

    def __init__(
        self,
        model_file: Path,
        proxy: TensorSpec,
        answer: TensorSpec,
        precision: Precision,
        sizing: Sizing = Sizing(),
    ) -> None:
        batch_size = sizing.batch_size
        core = ov.Core()
        hint = _chosen(precision, core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES"))
        network = core.read_model(model_file)
        _require_port(model_file, network.inputs, proxy, 1)
        _require_port(model_file, network.outputs, answer, 1)
        if batch_size > 1:
            _enlarge(model_file, network, (batch_size, *proxy.shape[1:]))
        compiled = core.compile_model(
            network, DEVICE, {"INFERENCE_PRECISION_HINT": hint, **_hints(sizing)}
        )
        _require_port(model_file, compiled.outputs, answer, batch_size)
        # Read back rather than trusted: a hint is only a hint.
        effective = str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string())
        self._precision = _EFFECTIVE_NAMES.get(effective, effective)
        self._streams = sizing.streams
        self._proxy, self._answer = proxy.name, answer.name
        # An infer request holds the tensors of one run; two threads must not share it.
        self._requests: queue.SimpleQueue[ov.InferRequest] = queue.SimpleQueue()
        for _ in range(sizing.streams):
            self._requests.put(compiled.create_infer_request())

    @property
    def precision(self) -> str:
        """What the arithmetic is done in: ``bf16`` or ``f32``."""
        return self._precision

    @property
    def streams(self) -> int:
        """How many threads may run batches at a time."""
        return self._streams

    def run(self, batch: FloatArray) -> FloatArray:
        """Process one batch.

        Parameters
        ----------
        batch : ndarray, shape (B, C, X, Y, Z), float16 or float32
            In the wire dtype of the manifest.

        Returns
        -------
        ndarray, shape (B, K, X, Y, Z), float16 or float32
        """
        request = self._requests.get()
        try:
            # Outputs are copied out of the request before the next run reuses its memory.
            results = request.infer({self._proxy: batch}, share_outputs=False)
            answer: FloatArray = np.asarray(results[self._answer])
        finally:
            self._requests.put(request)
        return answer

    def close(self) -> None:
        """Nothing is left to do: memory goes with the object."""


def require_available(precision: Precision) -> Precision:
    """What ``precision`` is here; :class:`InvalidInput` if this CPU does not compute in it."""
    return _chosen(precision, ov.Core().get_property(DEVICE, "OPTIMIZATION_CAPABILITIES"))


def _chosen(precision: Precision, capabilities: list[str]) -> Precision:
    if precision == "auto":
        return "bf16" if "BF16" in capabilities else "f32"
    if precision == "bf16" and "BF16" not in capabilities:
        raise InvalidInput("precision: this CPU does not compute in bf16; use f32 or auto")
    return precision


def _hints(sizing: Sizing) -> dict[str, str | int]:
    threads = {"INFERENCE_NUM_THREADS": sizing.threads} if sizing.threads else {}
    # The hint by itself is one stream on all cores, or on those of one socket.
    streams = {"NUM_STREAMS": sizing.streams} if sizing.streams > 1 else {}
    return {"PERFORMANCE_HINT": "LATENCY", **threads, **streams}


def _enlarge(model_file: Path, network: ov.Model, shape: tuple[int, ...]) -> None:
    try:
        network.reshape(list(shape))
    except RuntimeError as error:
        raise InvalidInput(
            f"{model_file}: batch_size: this network takes one tile at a time"
        ) from error


def _require_port(model_file: Path, ports: list[Any], spec: TensorSpec, batch_size: int) -> None:
    found = [
        (
            port.any_name,
            np.dtype(port.element_type.to_dtype()),
            tuple(port.partial_shape.to_shape()) if port.partial_shape.is_static else None,
        )
        for port in ports
    ]
    require_tensor(model_file, found, spec, batch_size)


def require_tensor(
    model_file: Path, found: Sequence[object], spec: TensorSpec, batch_size: int
) -> None:
    """Raise InvalidInput unless the one (name, dtype, shape) that was found is the manifest's."""
    lengths = (batch_size, *spec.shape[1:])
    if list(found) != [(spec.name, DTYPES.get(spec.datatype), lengths)]:
        raise InvalidInput(
            f"{model_file}: its tensors are not the manifest's"
            f" {spec.name} {spec.datatype} {list(lengths)}"
        )
