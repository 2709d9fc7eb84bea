"""What a contribution consists of: fixed beforehand, so that an interrupted one goes on."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from numpy.random import Generator

from veilseg.bundle import ClientManifest
from veilseg.contribution import PairFormat, ProtectedPair
from veilseg.datasets.cases import PreparedCase
from veilseg.payload import Float32Array
from veilseg.training.batches import Examples
from veilseg.training.examples import Arrays

KEY_DIGITS = 32


class PairMaker(Protocol):
    """A scheme's way to make pairs of tiles."""

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:
        """What of a whole case a tile is cut from."""
        ...

    def pair(self, tile: dict[str, Float32Array]) -> ProtectedPair:
        """What leaves of a tile."""
        ...


@dataclass(frozen=True)
class Plan:
    """Which pairs, in which shards.

    Attributes
    ----------
    maker : PairMaker
    cases : sequence of PreparedCase
    manifest : ClientManifest
    expected : PairFormat
        Of the project.
    views : int
        Augmented tiles of each case.
    seed : int
        Secret where it decides what hides the patient.
    data_sha256 : str
        Of the data set.
    """

    maker: PairMaker
    cases: Sequence[PreparedCase]
    manifest: ClientManifest
    expected: PairFormat
    views: int
    seed: int
    data_sha256: str

    @property
    def pairs(self) -> int:
        """How many there will be."""
        return self.views * len(self.cases)

    @property
    def shards(self) -> int:
        """In how many shards."""
        return -(-self.pairs // self.expected.pairs_per_shard)

    def key(self) -> str:
        """Of the contribution: the same for the same data, views, seed and client half.

        Leaks
        -----
        To the server: whoever has the very same data set and secret finds that it is this one.
        """
        names = sorted(case.name for case in self.cases)
        parts = [self.data_sha256, names, self.views, self.seed, self.expected.client_digest]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:KEY_DIGITS]

    def made(self, first_shard: int) -> Iterator[tuple[int, list[ProtectedPair]]]:
        """Number and pairs of each shard from one on; equal each time."""
        size = self.expected.pairs_per_shard
        tile, spacing = self.manifest.tile_shape, self.manifest.spacing_mm
        examples = Examples(self.maker, self.cases, tile, self.pairs, self.seed, spacing=spacing)
        # One example is augmented while another is encoded. By a thread: neither a vault nor a
        # runtime goes over to another process. By one: MONAI's transforms keep what they drew.
        with ThreadPoolExecutor(1) as pool:
            for number in range(first_shard, self.shards):
                wanted = range(number * size, min((number + 1) * size, self.pairs))
                tiles = (
                    {name: tensor.numpy() for name, tensor in example.items()}
                    for example in pool.map(examples.__getitem__, wanted)
                )
                yield number, [self.maker.pair(tile) for tile in tiles]
