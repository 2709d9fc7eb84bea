"""What a site contributes to a fit: protected pairs, in shards that say what they hold.

A pair is a proxy and what the server should answer to it. Nothing else crosses: no name, no file,
no geometry, no count of people.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from veilseg.bundle import ServerManifest
from veilseg.errors import InvalidShard
from veilseg.payload import WIRE_DTYPE

Float16Array = NDArray[np.float16]
PROXY, ANSWER = "proxy", "answer"
# Small enough to be sent again as a whole when a connection breaks.
TARGET_SHARD_BYTES = 8 * 2**20
# One pair of large tiles may be more than that.
LARGEST_SHARD_BYTES = 256 * 2**20


@dataclass(frozen=True)
class ProtectedPair:
    """A proxy and the answer that is wanted to it, each of one tile.

    Attributes
    ----------
    proxy, answer : ndarray, float16
        As on the wire, without a batch axis.
    """

    proxy: Float16Array
    answer: Float16Array


@dataclass(frozen=True)
class PairFormat:
    """What all pairs of a project have in common.

    Attributes
    ----------
    model : str
        Name of the server network that is fitted.
    client_digest : str
        Of the client half by which every site protects: other encoders, keys or preprocessing have
        another.
    proxy, answer : tuple of int
        Shapes of one tile.
    fitting : dict
        What the provider has to know to fit a network, from the bundle's server half.
    """

    model: str
    client_digest: str
    proxy: tuple[int, ...]
    answer: tuple[int, ...]
    fitting: dict[str, Any]

    @classmethod
    def of(cls, manifest: ServerManifest) -> Self:
        """Of a server half. Raises InvalidShard if its scheme is not fitted to pairs."""
        if manifest.fitting is None:
            raise InvalidShard(f"{manifest.name}: its scheme has no protected pairs to fit to")
        return cls(
            *(manifest.name, manifest.peer_digest),
            *(manifest.proxy.shape[1:], manifest.answer.shape[1:]),
            manifest.fitting,
        )

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """From what :meth:`to_json` gave; KeyError, TypeError or ValueError if it is none."""
        shapes = {name: tuple(fields[name]) for name in (PROXY, ANSWER)}
        if not all(shape and min(shape) > 0 for shape in shapes.values()):
            raise ValueError("a pair has no shape")
        return cls(**(fields | shapes))

    def to_json(self) -> dict[str, Any]:
        """As a document."""
        return asdict(self)

    @property
    def pair_bytes(self) -> int:
        """Of one pair on the wire."""
        values = np.prod(self.proxy, dtype=int) + np.prod(self.answer, dtype=int)
        return int(values) * WIRE_DTYPE.itemsize

    @property
    def pairs_per_shard(self) -> int:
        """How many pairs a site puts into one shard."""
        return max(1, TARGET_SHARD_BYTES // self.pair_bytes)


def encode_shard(pairs: Sequence[ProtectedPair]) -> bytes:
    """Several pairs as one safetensors document; equal pairs give equal bytes."""
    return save(
        {
            PROXY: np.stack([pair.proxy for pair in pairs]).astype(WIRE_DTYPE),
            ANSWER: np.stack([pair.answer for pair in pairs]).astype(WIRE_DTYPE),
        }
    )


def decode_shard(content: bytes, expected: PairFormat) -> tuple[Float16Array, Float16Array]:
    """Proxies and answers of a shard, (N, …) each.

    Raises
    ------
    InvalidShard
        If it is cut short or altered, holds other tensors than pairs of this format, no pair at
        all, or values that are not finite.
    """
    try:
        tensors = load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise InvalidShard("shard: not a whole safetensors document") from error
    if tensors.keys() != {PROXY, ANSWER}:
        raise InvalidShard(f"shard: needs the tensors {PROXY} and {ANSWER}, nothing else")
    for name, shape in ((PROXY, expected.proxy), (ANSWER, expected.answer)):
        found = tensors[name]
        if found.dtype != WIRE_DTYPE or found.shape[1:] != shape:
            raise InvalidShard(
                f"shard: {name}: {found.dtype} {list(found.shape)} is not float16"
                f" [pairs, {', '.join(map(str, shape))}]"
            )
        if not np.isfinite(found).all():
            raise InvalidShard(f"shard: {name}: holds NaN or infinity")
    proxies, answers = tensors[PROXY], tensors[ANSWER]
    if len(proxies) != len(answers) or not len(proxies):
        raise InvalidShard(f"shard: {len(proxies)} proxies and {len(answers)} answers")
    return proxies, answers
