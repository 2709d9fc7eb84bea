"""What defines a run."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from veilseg.training.recipe import Recipe

# Voxels per optimiser step; small tiles come in larger batches. Pictures come in smaller ones: of
# as many mixtures, a network learned more in many small steps.
VOXELS_PER_STEP = 200_000
PIXELS_PER_STEP = 65_536
LARGEST_BATCH = 16


@dataclass(frozen=True)
class Run:
    """What defines a run: with the same data, the same run gives the same weights."""

    scheme: str
    steps: int
    seed: int
    batch: int
    tile_shape: tuple[int, ...]
    data_sha256: str
    recipe: Recipe = field(default_factory=Recipe)
    init: str = ""  # id of the bundle whose weights it starts from
    fold: str = ""  # as 2/5; empty for the default split
    variant: str = ""  # of the scheme: its key, or which control it is
    patients_sha256: str = ""  # who is who, by which the data are split

    def fingerprint(self) -> str:
        """Short hash that a checkpoint must carry to be resumed by this run."""
        fields = {name: value for name, value in asdict(self).items() if value != ""}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]


def batch_size(tile_shape: Sequence[int], voxels: int | None = None) -> int:
    """Examples per step of so many voxels, by default for about the same work at any tile shape."""
    if voxels is None:
        voxels = PIXELS_PER_STEP if len(tile_shape) == 2 else VOXELS_PER_STEP
    return min(LARGEST_BATCH, max(1, round(voxels / math.prod(tile_shape))))
