"""Ways to compute a served network: one tile in, one answer out, on so many threads."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import onnxruntime
import openvino as ov

from veilseg.bundle import ServerBundle
from veilseg.errors import VeilsegError
from veilseg.serving.runtime import DEVICE
from veilseg.wire.tensors import DTYPES, FloatArray

if TYPE_CHECKING:
    from torch import nn

Contender = Callable[[FloatArray], FloatArray]
Make = Callable[[ServerBundle, int], Contender]

# What the others are compared with.
TORCH: Final = "torch fp32"


class NotRun(VeilsegError):
    """A contender that cannot take part here, and why."""


def torch_eager(bundle: ServerBundle, threads: int) -> Contender:
    """The network as it was trained, in float32, without a compiler.

    Raises
    ------
    NotRun
        If torch is not installed, or the served network is none of a segmentation.
    """
    try:
        import torch

        from veilseg.training.start import segmenter_of
    except ImportError as error:
        raise NotRun(f"needs {error.name}: pip install 'veilseg[train]'") from error
    network: nn.Module = segmenter_of(bundle).eval()
    torch.set_num_threads(threads)

    def compute(tile: FloatArray) -> FloatArray:
        with torch.inference_mode():
            found: FloatArray = network(torch.from_numpy(tile).float()).half().numpy()
        return found

    return compute


def onnx_runtime(bundle: ServerBundle, threads: int) -> Contender:
    """ONNX Runtime on the bundle's model, in float32 as a site without OpenVINO computes."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        str(bundle.model_file), options, providers=["CPUExecutionProvider"]
    )
    name = bundle.manifest.proxy.name

    def compute(tile: FloatArray) -> FloatArray:
        return np.asarray(session.run(None, {name: tile})[0])

    return compute


def openvino_loop(precision: str) -> Make:
    """A bare OpenVINO loop: compiled once, one request used again and again, nothing copied."""

    def make(bundle: ServerBundle, threads: int) -> Contender:
        core = ov.Core()
        if precision == "bf16" and "BF16" not in core.get_property(
            DEVICE, "OPTIMIZATION_CAPABILITIES"
        ):
            raise NotRun("this CPU does not compute in bf16")
        request = compiled(bundle.model_file, precision, threads).create_infer_request()
        name = bundle.manifest.proxy.name

        def compute(tile: FloatArray) -> FloatArray:
            return np.asarray(request.infer({name: tile}, share_inputs=True, share_outputs=True)[0])

        return compute

    return make


def compiled(model_file: Path, precision: str, threads: int) -> ov.CompiledModel:
    """A model compiled for one stream on so many threads."""
    hints = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    return ov.Core().compile_model(model_file, DEVICE, hints)


RUNTIMES: Final[dict[str, Make]] = {
    TORCH: torch_eager,
    "ONNX Runtime fp32": onnx_runtime,
    "OpenVINO f32": openvino_loop("f32"),
    "OpenVINO bf16": openvino_loop("bf16"),
}


def selftest_tile(bundle: ServerBundle) -> FloatArray:
    """The tile that travels with the bundle, as on the wire, with a batch axis."""
    with np.load(bundle.selftest_file, allow_pickle=False) as arrays:
        tile: FloatArray = arrays["proxy"][np.newaxis]
    return np.ascontiguousarray(tile, DTYPES[bundle.manifest.proxy.datatype])
