"""The server half on disk: one ONNX model, laid out as Triton has it, and a self-test of nobody."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from veilseg.bundle import ServerManifest
from veilseg.payload import Float32Array
from veilseg.runtime import OnnxModel
from veilseg.training.export import export_onnx

# The self-test is rounded to this: it compresses to a tenth, and stays exact in FP16.
SELFTEST_LEVELS = 64

CONFIG = """name: "{name}"
platform: "onnxruntime_onnx"
max_batch_size: 0
input [{{ name: "{proxy.name}" data_type: TYPE_FP16 dims: [{input_dims}] }}]
output [{{ name: "{answer.name}" data_type: TYPE_FP16 dims: [{output_dims}] }}]
"""


def write_server_half(
    folder: Path, manifest: ServerManifest, network: nn.Module, nobody: Float32Array
) -> None:
    """Export the network and what it answers to a known proxy; sealing is for the caller.

    Parameters
    ----------
    folder : Path
        Exists and is empty.
    manifest : ServerManifest
    network : Module
        Proxy to answer, float32.
    nobody : ndarray
        A proxy (C, *tile) in which there is no patient.

    Raises
    ------
    IntegrityError
        If the exported model differs from the trained one.
    """
    model_folder = folder / manifest.name / "1"
    model_folder.mkdir(parents=True)
    (folder / "selftest").mkdir()
    proxy, answer = manifest.proxy, manifest.answer
    tile = _rounded(nobody[None])
    model = model_folder / "model.onnx"
    given = {proxy.name: torch.from_numpy(tile)}
    export_onnx(network, model, given, answer.name, wire=True)
    expected = OnnxModel(model)(**{proxy.name: tile})
    np.savez_compressed(
        folder / "selftest" / "tile.npz",
        proxy=tile[0].astype(np.float16),
        answer=_rounded(expected[0]).astype(np.float16),
    )
    (model_folder.parent / "config.pbtxt").write_text(
        CONFIG.format(
            name=manifest.name,
            proxy=proxy,
            answer=answer,
            input_dims=", ".join(map(str, proxy.shape)),
            output_dims=", ".join(map(str, answer.shape)),
        ),
        encoding="utf-8",
    )


def _rounded(array: Float32Array) -> Float32Array:
    return np.round(array * SELFTEST_LEVELS) / np.float32(SELFTEST_LEVELS)
