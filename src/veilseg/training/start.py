"""Weights to start from: those of a bundle, read from the models that it ships."""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from veilseg.bundle import open_client_half, open_server_half
from veilseg.errors import BundleIntegrity
from veilseg.training.export import HALVED
from veilseg.training.interface import SchemeTraining


def start_from(bundle: Path, scheme: SchemeTraining) -> None:
    """Give a scheme the weights of a bundle; they were rounded to FP16 when it was written.

    Raises
    ------
    InvalidInput
        If a half of the bundle is missing.
    BundleIntegrity
        If a file is damaged, or the weights are of other networks.
    """
    server, client = open_server_half(bundle), open_client_half(bundle)
    files = [server.model_file]
    files += [client.file(name) for name in client.manifest.files if name.endswith(".onnx")]
    stored: dict[str, Tensor] = {}
    for file in files:
        for initializer in onnx.load(str(file)).graph.initializer:
            array = numpy_helper.to_array(initializer).astype(np.float32)
            stored[initializer.name.removesuffix(HALVED)] = torch.from_numpy(array)
    own = _exported(scheme)
    other = [n for n, p in own.items() if n not in stored or stored[n].shape != p.shape]
    if other:
        raise BundleIntegrity(f"{bundle}: weights of other networks: {other[0]}")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(stored[name])


def _exported(scheme: SchemeTraining) -> dict[str, Tensor]:
    """Weights by their names in exported models; the server's lie one level deeper."""
    served = {f"network.{n}": p for n, p in scheme.server_network.named_parameters()}
    addresses = {p.data_ptr() for p in served.values()}
    kept = {n: p for n, p in scheme.named_parameters() if p.data_ptr() not in addresses}
    return {**served, **kept}
