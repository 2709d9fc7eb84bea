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

    A network that a bundle of another scheme does not have begins anew: the unmixing network, where
    one for raw images is started from.

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
    found: dict[str, Tensor] = {}
    missing: list[str] = []
    for name, names in _names(scheme).items():
        there = [stored[other] for other in names if other in stored]
        if not there:
            missing.append(name)
        elif there[0].shape == scheme.get_parameter(name).shape:
            found[name] = there[0]
        else:
            raise BundleIntegrity(f"{bundle}: weights of other networks: {name}")
    known = {_network(name) for name in found}
    for name in missing:
        if _network(name) in known or client.manifest.scheme == scheme.name:
            raise BundleIntegrity(f"{bundle}: weights of other networks: {name}")
    if not found:
        raise BundleIntegrity(f"{bundle}: has no network of {scheme.name} to start from")
    with torch.no_grad():
        for name, weight in found.items():
            scheme.get_parameter(name).copy_(weight)


def _network(name: str) -> str:
    """Which of a scheme's networks a weight is of."""
    return name.partition(".")[0]


def _names(scheme: SchemeTraining) -> dict[str, list[str]]:
    """Names that each weight may have in an exported model.

    MONAI's U-Net lists its blocks under two names, of which an export takes one; a served network
    lies one level deeper.
    """
    aliases: dict[int, list[str]] = {}
    for name, weight in scheme.named_parameters(remove_duplicate=False):
        aliases.setdefault(id(weight), []).append(name)
    for name, weight in scheme.server_network.named_parameters(remove_duplicate=False):
        aliases[id(weight)].append(f"network.{name}")
    return {name: aliases[id(weight)] for name, weight in scheme.named_parameters()}
