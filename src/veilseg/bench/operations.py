"""What a served network computes, counted from its model without computing anything."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import openvino as ov

from veilseg.bundle import open_client_half, open_server_half
from veilseg.errors import InvalidInput
from veilseg.schemes.encoding.client import MASK_ENCODER_FILE

RISING: Final = "ConvolutionBackpropData"
CONVOLUTIONS: Final = frozenset({"Convolution", RISING})
# What :func:`operations` does not describe. Pooling, norms, activations and sums are linear in the
# voxels, without a factor of the channels, and counted as nothing.
GROUPED: Final = frozenset({"GroupConvolution", "GroupConvolutionBackpropData"})
PRODUCT: Final = "MatMul"


@dataclass(frozen=True)
class Convolution:
    """One convolution of a network, on one tile.

    Attributes
    ----------
    in_channels, out_channels : int
    kernel, grid, out_grid : tuple of int
        ``grid`` is what it reads, ``out_grid`` what it writes.
    rising : bool
        Whether it is transposed: each voxel that is read is spread over a kernel.
    """

    in_channels: int
    out_channels: int
    kernel: tuple[int, ...]
    grid: tuple[int, ...]
    out_grid: tuple[int, ...]
    rising: bool = False

    def sees_around(self) -> bool:
        """Whether it sees more than one voxel and writes as many as it reads."""
        return not self.rising and self.grid == self.out_grid and math.prod(self.kernel) > 1

    @property
    def weights(self) -> int:
        """How many."""
        return self.in_channels * self.out_channels * math.prod(self.kernel)

    @property
    def inputs(self) -> int:
        """Numbers that are read."""
        return self.in_channels * math.prod(self.grid)

    @property
    def outputs(self) -> int:
        """Numbers that are written."""
        return self.out_channels * math.prod(self.out_grid)

    @property
    def multiply_adds(self) -> int:
        """One for each weight and place where it is used; at a rim with zeros as well."""
        return self.weights * math.prod(self.grid if self.rising else self.out_grid)

    @property
    def products(self) -> int:
        """Numbers that have to be encrypted where a ciphertext holds one input of every place."""
        if self.rising:
            return self.inputs
        return self.in_channels * math.prod(self.kernel) * math.prod(self.out_grid)


@dataclass(frozen=True)
class Operations:
    """All that a network computes on one tile.

    Attributes
    ----------
    convolutions : sequence of Convolution
    rectifiers, rectified : int
        (Leaky) rectifiers, and numbers that go through them.
    """

    convolutions: Sequence[Convolution]
    rectifiers: int
    rectified: int

    @property
    def multiply_adds(self) -> int:
        """Of all convolutions."""
        return sum(one.multiply_adds for one in self.convolutions)

    @property
    def costliest(self) -> Convolution:
        """With the most multiply-adds, of those that see around and keep the grid."""
        seeing = filter(Convolution.sees_around, self.convolutions)
        return max(seeing, key=lambda one: one.multiply_adds)


def operations(model_file: Path) -> Operations:
    """Count those of a model of fixed shapes.

    Raises
    ------
    InvalidInput
        If it multiplies in a way that is not counted here, or has no convolution that sees around.
    """
    convolutions, rectified = [], []
    for operation in ov.Core().read_model(model_file).get_ordered_ops():
        kind = operation.get_type_name()
        if kind in GROUPED or kind == PRODUCT:
            raise InvalidInput(f"{model_file}: {kind} is not counted")
        if kind in CONVOLUTIONS:
            convolutions.append(_convolution(operation, kind == RISING))
        elif kind in {"PRelu", "Relu"}:
            rectified.append(math.prod(operation.output(0).get_shape()))
    if not any(map(Convolution.sees_around, convolutions)):
        raise InvalidInput(f"{model_file}: no convolution that sees around and keeps the grid")
    return Operations(tuple(convolutions), len(rectified), sum(rectified))


def multiply_adds(model_file: Path) -> int:
    """Of convolutions, grouped ones too, and of matrix products of a model of fixed shapes."""
    return sum(map(_multiply_adds, ov.Core().read_model(model_file).get_ordered_ops()))


def multiply_adds_of_bundle(folder: Path) -> dict[str, int]:
    """Multiply-adds of one tile: at the server, and at the site.

    Raises
    ------
    InvalidInput, IntegrityError
        If a half of the bundle is missing or damaged.
    """
    client, server = open_client_half(folder), open_server_half(folder)
    # Whoever segments encodes no mask.
    used = [name for name in client.manifest.files if name != MASK_ENCODER_FILE]
    at_site = [client.file(name) for name in used if name.endswith(".onnx")]
    return {
        "server": multiply_adds(server.model_file),
        "site": sum(map(multiply_adds, at_site)),
    }


def _multiply_adds(operation: ov.Node) -> int:
    kind = operation.get_type_name()
    if kind in CONVOLUTIONS:
        return _convolution(operation, kind == RISING).multiply_adds
    if kind in GROUPED:
        # Weights are (groups, out, in, *kernel), or (groups, in, out, *kernel) where it rises.
        groups, *weights = operation.input(1).get_shape()
        used = operation.input(0) if RISING in kind else operation.output(0)
        return int(groups * math.prod(weights) * math.prod(used.get_shape()[2:]))
    if kind == PRODUCT:
        summed = operation.input(0).get_shape()
        across = operation.get_attributes()["transpose_a"]
        return int(math.prod(operation.output(0).get_shape()) * summed[-2 if across else -1])
    return 0


def _convolution(operation: ov.Node, rising: bool) -> Convolution:
    _, _, *grid = operation.input(0).get_shape()
    first, second, *kernel = operation.input(1).get_shape()
    _, _, *out_grid = operation.output(0).get_shape()
    into, out = (first, second) if rising else (second, first)
    return Convolution(into, out, tuple(kernel), tuple(grid), tuple(out_grid), rising)
