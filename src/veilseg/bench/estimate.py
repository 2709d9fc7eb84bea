"""What a whole network would cost in another family: an estimate, from one layer and from counts.

Nothing here was run. Each part of a layer's cost is taken as proportional to what it is made of:
seconds of convolutions to multiply-adds; what CrypTen opens to inputs and weights; what it deals to
outputs; what CKKS sends and encrypts to the voxels around each place.

Left out: instance norms and the softmax, what fixed-point numbers lose over many layers, memory,
and a network's latency.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from veilseg.bench.operations import Convolution, Operations
from veilseg.bench.rounds import significant

Phases = Mapping[str, Mapping[str, Any]]


def crypten(phases: Phases, layer: Convolution, network: Operations) -> dict[str, Any]:
    """Convolutions and rectifiers on shares, one after the other, both parties on one machine."""
    convolve, rectify = phases["convolve"], phases["rectify"]
    products = network.multiply_adds / layer.multiply_adds
    moved = sum(map(_moved, network.convolutions)) / _moved(layer)
    rectified = network.rectified / layer.outputs
    return {
        "seconds": {
            "convolutions": significant(convolve["seconds"] * products),
            "rectifiers": significant(rectify["seconds"] * rectified),
        },
        "bytes": {
            "convolutions": significant(convolve["bytes"] * moved),
            "rectifiers": significant(rectify["bytes"] * rectified),
        },
        "rounds": round(
            convolve["rounds"] * len(network.convolutions) + rectify["rounds"] * network.rectifiers
        ),
    }


def tenseal(phases: Phases, layer: Convolution, network: Operations) -> dict[str, Any]:
    """Convolutions in CKKS; after each the client decrypts, does the rest, and encrypts anew.

    Otherwise the whole network would need a modulus for all its products, or bootstrapping, which
    TenSEAL does not have.
    """
    encrypt, convolve, decrypt = (phases[name] for name in ("encrypt", "convolve", "decrypt"))
    products = network.multiply_adds / layer.multiply_adds
    sent = sum(one.products for one in network.convolutions) / layer.products
    received = sum(_answered(one) for one in network.convolutions) / layer.outputs
    return {
        "seconds": {
            "encryption": significant(encrypt["seconds"] * sent),
            "convolutions": significant(convolve["seconds"] * products),
            "decryption": significant(decrypt["seconds"] * received),
        },
        "bytes": {
            "to the server": significant(encrypt["bytes"] * sent),
            "to the client": significant(decrypt["bytes"] * received),
        },
        "rounds": len(network.convolutions),
    }


def _moved(one: Convolution) -> float:
    """Numbers that go over the wire: both parties' of inputs and weights; the dealer's of outputs.

    Each is opened by both, and dealt to one.
    """
    return 2 * (one.inputs + one.weights) + one.outputs


def _answered(one: Convolution) -> int:
    return one.outputs


Estimate = Callable[[Phases, Convolution, Operations], dict[str, Any]]
ESTIMATES: Final[dict[str, Estimate]] = {"CrypTen": crypten, "TenSEAL": tenseal}
