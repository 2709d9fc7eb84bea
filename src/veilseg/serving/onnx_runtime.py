"""ONNX Runtime, where OpenVINO is not wanted: in f32 alone, and slower on most CPUs."""

from pathlib import Path

import numpy as np
import onnxruntime

from veilseg.bundle import TensorSpec
from veilseg.errors import InvalidInput
from veilseg.serving.runtime import Precision, Sizing, require_tensor
from veilseg.wire.tensors import FloatArray

# As ONNX Runtime names the wire's types.
TYPES = {"tensor(float16)": np.dtype(np.float16), "tensor(float)": np.dtype(np.float32)}


class OnnxRuntime:
    """A network in ONNX Runtime, as a :class:`~veilseg.serving.runtime.Runtime`.

    Parameters
    ----------
    model_file : Path
    proxy, answer : TensorSpec
        What the bundle's manifest promises; the file has to keep it.
    precision : {"bf16", "f32", "auto"}
    sizing : Sizing
        A batch goes through tile by tile: the model is of one.

    Raises
    ------
    InvalidInput
        For bf16, which it does not compute in, or if the model's tensors are not the manifest's.
    RuntimeError
        If ONNX Runtime cannot load the file.
    """

    precision = "f32"

    def __init__(
        self,
        model_file: Path,
        proxy: TensorSpec,
        answer: TensorSpec,
        precision: Precision,
        sizing: Sizing = Sizing(),  # noqa: B008 - frozen
    ) -> None:
        require_f32(precision)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # warnings are about graphs that an operator cannot change
        # One pool for all streams, each of which brings the thread that it is asked in.
        options.intra_op_num_threads = max(1, sizing.threads - sizing.streams + 1)
        if not sizing.threads:
            options.intra_op_num_threads = 0  # as many as there are cores
        try:
            self._session = onnxruntime.InferenceSession(
                str(model_file), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            # ONNX Runtime raises classes of its extension module that share no public base.
            raise RuntimeError(f"{model_file}: not a model that ONNX Runtime can load") from error
        for nodes, spec in (
            (self._session.get_inputs(), proxy),
            (self._session.get_outputs(), answer),
        ):
            found = [(one.name, TYPES.get(one.type), tuple(one.shape)) for one in nodes]
            require_tensor(model_file, found, spec, 1)
        self._proxy, self.streams = proxy.name, sizing.streams

    def run(self, batch: FloatArray) -> FloatArray:
        """Process one batch, as :class:`~veilseg.serving.runtime.Runtime`."""
        answers = [
            self._session.run(None, {self._proxy: batch[place : place + 1]})[0]
            for place in range(len(batch))
        ]
        found: FloatArray = answers[0] if len(answers) == 1 else np.concatenate(answers)
        return found

    def close(self) -> None:
        """Nothing is left to do: memory goes with the object."""


def require_f32(precision: Precision) -> Precision:
    """What ``precision`` is here. Raises InvalidInput if ONNX Runtime does not compute in it."""
    if precision == "bf16":
        raise InvalidInput("precision: ONNX Runtime does not compute in bf16; use f32 or auto")
    return "f32"
