"""Pairs of many shards as one sequence, of which only what is asked for is read."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from veilseg.collaboration.blobs import Blobs
from veilseg.contribution import ANSWER, PROXY, ProtectedPair
from veilseg.digests import sha256_of
from veilseg.errors import IntegrityError


class ShardPairs(Sequence[ProtectedPair]):
    """All pairs of some contributions.

    Parameters
    ----------
    manifest : sequence of dict
        Contributions with their shards, as a fit records them.
    blobs : Blobs
    folder : Path
        For copies of what does not lie on this machine.

    Raises
    ------
    IntegrityError
        If a shard is gone, or is not what the site sent.
    """

    def __init__(self, manifest: Sequence[dict[str, Any]], blobs: Blobs, folder: Path) -> None:
        self._files: list[Path] = []
        counts = []
        for contribution in manifest:
            for shard in contribution["shards"]:
                self._files.append(_checked(contribution, shard, blobs, folder))
                counts.append(int(shard["pairs"]))
        # Up to and with each shard.
        self._ends = list(accumulate(counts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        place = bisect_right(self._ends, index)
        row = index - (self._ends[place - 1] if place else 0)
        # Opened each time: a file handle does not go over to a data-loading process.
        with safe_open(self._files[place], framework="np") as shard:
            return ProtectedPair(
                *(np.array(shard.get_slice(name)[row]) for name in (PROXY, ANSWER))
            )

    def __iter__(self) -> Iterator[ProtectedPair]:
        return (self[index] for index in range(len(self)))


def _checked(
    contribution: dict[str, Any], shard: dict[str, Any], blobs: Blobs, folder: Path
) -> Path:
    what = f"contribution {contribution['contribution']}: shard {shard['number']}"
    try:
        path = blobs.fetch(shard["path"], folder)
        if sha256_of(path) != shard["sha256"]:
            raise IntegrityError(f"{what}: SHA-256 differs from the record: altered or damaged")
        with safe_open(path, framework="np") as opened:
            pairs = opened.get_slice(PROXY).get_shape()[0]
    except (OSError, SafetensorError) as error:
        raise IntegrityError(f"{what}: cannot be read: damaged or gone") from error
    if pairs != shard["pairs"]:
        raise IntegrityError(f"{what}: holds {pairs} pairs, not {shard['pairs']}")
    return path
