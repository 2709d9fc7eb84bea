"""A convolution of planes in the clear, by the runtime that our server computes with."""

import time
from collections.abc import Callable

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13

from veilseg.serving.runtime import DEVICE

Compute = Callable[[], tuple[float, NDArray[np.float64]]]


def plain_convolution(
    image: NDArray[np.float64], weight: NDArray[np.float64], threads: int
) -> Compute:
    """Computes it in float32: seconds, and the answer.

    Parameters
    ----------
    image : ndarray, shape (N, C, X, Y)
    weight : ndarray, shape (O, C, 3, 3)
    threads : int
    """
    tile = np.ascontiguousarray(image, np.float32)
    entry = opset13.parameter(tile.shape, np.float32)
    kernel = opset13.constant(weight.astype(np.float32))
    rim = [1, 1]
    answer = opset13.convolution(entry, kernel, [1, 1], rim, rim, [1, 1])
    hints = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    model = ov.Model([answer], [entry], "layer")
    request = ov.Core().compile_model(model, DEVICE, hints).create_infer_request()

    def compute() -> tuple[float, NDArray[np.float64]]:
        begun = time.perf_counter()
        found = request.infer({0: tile}, share_inputs=True, share_outputs=True)[0]
        seconds = time.perf_counter() - begun
        return seconds, np.asarray(found, np.float64)

    return compute
