"""ONNX Runtime, as sites use it: one session, named arrays in and out."""

from pathlib import Path

import numpy as np
import onnxruntime

from veilseg.errors import BundleIntegrity, GeometryMismatch
from veilseg.payload import Float32Array


class OnnxModel:
    """A model file with one output.

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
        """Run on float32 arrays, batch axis included; returns float32.

        Raises
        ------
        BundleIntegrity
            If the model takes inputs of other names.
        GeometryMismatch
            If an array does not have the model's shape.
        """
        if inputs.keys() != self._shapes.keys():
            raise BundleIntegrity(
                f"{self._path}: takes {', '.join(sorted(self._shapes))}, "
                f"not {', '.join(sorted(inputs))}"
            )
        for name, array in inputs.items():
            if array.shape != self._shapes[name]:
                raise GeometryMismatch(
                    f"{name}: shape {array.shape}, the model takes {self._shapes[name]}"
                )
        feeds = {
            name: array.astype(np.float16 if name in self._half else np.float32, copy=False)
            for name, array in inputs.items()
        }
        return np.asarray(self._session.run(None, feeds)[0], dtype=np.float32)
