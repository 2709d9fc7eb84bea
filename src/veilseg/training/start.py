"""Weights to start from: those of a bundle, read from the models that it ships."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from veilseg.bundle import ServerBundle, open_client_half, open_server_half
from veilseg.errors import BundleIntegrity
from veilseg.networks.segmenter import Segmenter
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
    stored = _stored(files)
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
        if _network(name) in scheme.unshipped:
            continue
        if _network(name) in known or client.manifest.scheme == scheme.name:
            raise BundleIntegrity(f"{bundle}: weights of other networks: {name}")
    if not found:
        raise BundleIntegrity(f"{bundle}: has no network of {scheme.name} to start from")
    with torch.no_grad():
        for name, weight in found.items():
            scheme.get_parameter(name).copy_(weight)


def segmenter_of(bundle: ServerBundle) -> nn.Module:
    """The served network of a bundle in torch: proxy to class probabilities, float32.

    Raises
    ------
    BundleIntegrity
        If its weights are of another network: an encoding's, or a control's.
    """
    manifest = bundle.manifest
    _, channels, *space = manifest.proxy.shape
    classes = manifest.answer.shape[1]
    network = nn.Sequential(Segmenter(len(space), channels, classes), nn.Softmax(dim=1))
    stored = _stored([bundle.model_file])
    with torch.no_grad():
        for weight, names in _aliases(network, "network.").values():
            there = [stored[name] for name in names if name in stored]
            if not there or there[0].shape != weight.shape:
                raise BundleIntegrity(f"{bundle.folder}: weights of other networks: {names[0]}")
            weight.copy_(there[0])
    return network


def _stored(files: Iterable[Path]) -> dict[str, Tensor]:
    """Weights of exported models by name, in float32."""
    found: dict[str, Tensor] = {}
    for file in files:
        for initializer in onnx.load(str(file)).graph.initializer:
            array = numpy_helper.to_array(initializer).astype(np.float32)
            found[initializer.name.removesuffix(HALVED)] = torch.from_numpy(array)
    return found


def _network(name: str) -> str:
    """Which of a scheme's networks a weight is of."""
    return name.partition(".")[0]


def _names(scheme: SchemeTraining) -> dict[str, list[str]]:
    """Names that each weight may have in an exported model.

    MONAI's U-Net lists its blocks under two names, of which an export takes one; a served network
    lies one level deeper.
    """
    aliases = _aliases(scheme)
    for key, (_, names) in _aliases(scheme.server_network, "network.").items():
        aliases[key][1].extend(names)
    return {name: aliases[id(weight)][1] for name, weight in scheme.named_parameters()}


def _aliases(module: nn.Module, prefix: str = "") -> dict[int, tuple[Tensor, list[str]]]:
    """Each weight with every name it has, by identity."""
    found: dict[int, tuple[Tensor, list[str]]] = {}
    for name, weight in module.named_parameters(remove_duplicate=False):
        found.setdefault(id(weight), (weight, []))[1].append(prefix + name)
    return found
