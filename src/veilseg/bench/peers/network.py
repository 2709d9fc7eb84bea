"""The network as every peer computes it: OpenVINO, one request for each thread of a server."""

import argparse
import threading
from typing import Any

import numpy as np
import openvino as ov


def options() -> Any:
    """What every peer is told."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--precision", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--port", type=int, required=True)
    return parser.parse_args()


class Network:
    """A compiled model; as many threads as want to may use it, one after the other."""

    def __init__(self, model: str, precision: str, threads: int) -> None:
        hints = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        compiled = ov.Core().compile_model(model, "CPU", hints)
        self.proxy, self.answer = compiled.input(0), compiled.output(0)
        self._request = compiled.create_infer_request()
        self._lock = threading.Lock()

    def __call__(self, tile: Any) -> Any:
        """Answer of one tile with its batch axis."""
        with self._lock:
            found = self._request.infer({0: tile}, share_inputs=True, share_outputs=False)
            return np.asarray(found[0])
