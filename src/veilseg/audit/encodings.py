"""Encodings of the attacker's own images, as whoever has a site's half makes them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from veilseg.audit.findings import DoesNotApply
from veilseg.audit.grids import fitted
from veilseg.audit.laws import Law
from veilseg.audit.scene import Observation, Scene
from veilseg.datasets.cases import PreparedCase
from veilseg.networks.encoders import Decoder
from veilseg.networks.encodings import Maps
from veilseg.networks.mapping import Mapping
from veilseg.payload import Float32Array
from veilseg.schemes.encoding.client import EncodingClient
from veilseg.schemes.encoding.contributing import EncodingPairs
from veilseg.schemes.encoding.mapping import as_maps
from veilseg.schemes.encoding.sequence import Layout
from veilseg.training.augmentation import Augmentation
from veilseg.training.examples import one_hot
from veilseg.training.loader import Batch


class FreshEncodings(Dataset[Batch]):
    """As many examples of a law as wanted, each of one tile of an attacker's case.

    Parameters
    ----------
    cases : sequence of PreparedCase
        On the tile's grid.
    law : Law
    count, seed : int
    augment : bool
    """

    def __init__(
        self, cases: Sequence[PreparedCase], law: Law, count: int, seed: int, augment: bool = True
    ) -> None:
        self.cases, self.law, self.count, self.seed = cases, law, count, seed
        self.augmentation = Augmentation(cases[0].labels.ndim) if augment else None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Batch:
        rng = np.random.default_rng([self.seed, 31, number])
        case = self.cases[int(rng.integers(len(self.cases)))]
        if self.augmentation is not None:
            image, labels = self.augmentation(case.image, case.labels, rng)
            case = replace(case, image=image, labels=labels)
        return {
            name: torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
            for name, array in self.law.example(case, rng).items()
        }


class EncodedSegmenter(nn.Module):
    """Encoded image to class logits of the tile: a mapping network and a decoder in one.

    Parameters
    ----------
    image, mask : Layout
    classes : int
    sees_answer : bool
        Whether the decoder is given the server's answer beside what the mapping network makes.
    """

    def __init__(
        self, image: Layout, mask: Layout, classes: int, sees_answer: bool = False
    ) -> None:
        super().__init__()
        self.image, self.mask = image, mask
        dims = len(image.levels[0].grid)
        of_image, of_mask = ([level.channels for level in one.levels] for one in (image, mask))
        self.mapping = Mapping(dims, of_image, of_mask)
        known = [count * (1 + sees_answer) for count in of_mask]
        self.decoder = Decoder(dims, known, classes)

    def forward(self, sequence: Tensor, *answer: Tensor) -> Tensor:
        found: Maps = self.mapping(as_maps(sequence, self.image))
        for one in answer:
            both = zip(found, as_maps(one, self.mask), strict=True)
            found = [torch.cat(maps, dim=1) for maps in both]
        logits: Tensor = self.decoder(found)
        return logits


def layout_of(scene: Scene, what: str) -> Layout:
    """Of the encoded images or masks (``image``, ``mask``).

    Raises
    ------
    DoesNotApply
        If the scheme encodes nothing.
    """
    if not scene.encodes:
        raise DoesNotApply("nothing is encoded")
    return Layout.from_json(scene.manifest.settings[f"{what}_levels"])


def own_tiles(scene: Scene) -> list[PreparedCase]:
    """The attacker's cases on the tile's grid."""
    return [fitted(case, scene.manifest.tile_shape) for case in scene.auxiliary]


def decoded(
    scene: Scene, seen: Sequence[Observation], images: Sequence[Float32Array]
) -> list[Observation]:
    """With answers as a site's half decodes them: probabilities (K, *tile).

    Parameters
    ----------
    scene : Scene
    seen : sequence of Observation
        Of one tile each.
    images : sequence of ndarray, shape (C, *tile)
        What the decoder is told that the image is.
    """
    half = scene.client()
    assert isinstance(half, EncodingClient)
    return [
        replace(one, answer=half.decoded(one.answer, image))
        for one, image in zip(seen, images, strict=True)
    ]


def as_contributed(
    pairs: EncodingPairs, classes: int, seen: Sequence[Observation]
) -> list[Observation]:
    """With the encoded mask that a site sends for a fit in the place of the answer."""
    found = []
    for one in seen:
        tile = {"image": one.image, "target": one_hot(one.labels, classes)}
        found.append(replace(one, answer=pairs.pair(tile).answer.astype(np.float32)))
    return found
