"""The fit of the mapping network: the same whatever basis a key turns tokens to."""

import numpy as np
import pytest
import torch
from torch import nn

from veilseg.contribution import ProtectedPair
from veilseg.schemes.encoding.key import ConsortiumKey
from veilseg.schemes.encoding.mapping import MappingFit, MappingLoss, SequenceMapping
from veilseg.schemes.encoding.sequence import Layout

TILE = (16, 24)
IMAGE, MASK = Layout.of(TILE, (2, 3)), Layout.of(TILE, (4, 5))
FIT = MappingFit(IMAGE, MASK, steps=4, seed=0, learning_rate=1e-3)


class Turned(nn.Module):
    """A network in another basis: turn back, ask, turn the answer."""

    def __init__(self, network, of_images, of_masks):
        super().__init__()
        self.network, self.of_images, self.of_masks = network, of_images, of_masks

    def forward(self, maps):
        plain = [_turn(one, basis.T) for one, basis in zip(maps, self.of_images, strict=True)]
        found = self.network(plain)
        return [_turn(one, basis) for one, basis in zip(found, self.of_masks, strict=True)]


def _turn(maps, basis):
    return torch.einsum("ij,nj...->ni...", torch.from_numpy(basis), maps)


def stretched(layout, rng):
    """A sequence whose channels vary by very different amounts, as some do."""
    grids = [
        rng.standard_normal((level.channels, *level.grid)).astype(np.float32)
        * np.geomspace(0.2, 5, level.channels, dtype=np.float32)[:, None, None]
        for level in layout.levels
    ]
    return layout.sequence(grids)


@pytest.fixture
def pairs():
    rng = np.random.default_rng(0)
    return [ProtectedPair(stretched(IMAGE, rng), stretched(MASK, rng)) for _ in range(6)]


def loss_of(mapping, pairs):
    batch = {
        "image": torch.from_numpy(np.stack([one.proxy for one in pairs])),
        "mask": torch.from_numpy(np.stack([one.answer for one in pairs])),
    }
    return float(MappingLoss(mapping)(batch).detach())


def test_loss_is_the_same_with_a_key_and_without(pairs):
    torch.manual_seed(0)
    mapping = FIT.mapping()
    mapping.standardise(pairs)
    key = ConsortiumKey(bytes(range(32)))
    of_images, of_masks = key.transform(IMAGE, "image"), key.transform(MASK, "mask")
    keyed = [ProtectedPair(of_images.apply(one.proxy), of_masks.apply(one.answer)) for one in pairs]
    turned = SequenceMapping(Turned(mapping.network, of_images.bases, of_masks.bases), IMAGE, MASK)
    turned.standardise(keyed)
    plain = loss_of(mapping, pairs)
    assert loss_of(turned, keyed) == pytest.approx(plain, rel=1e-4)
    # It is not so by any loss: networks that do not know the basis have another.
    other = SequenceMapping(mapping.network, IMAGE, MASK)
    other.standardise(keyed)
    assert loss_of(other, keyed) != pytest.approx(plain, rel=1e-3)


def test_exact_answers_have_no_loss_and_finite_gradients(pairs):
    torch.manual_seed(0)
    mapping = FIT.mapping()
    mapping.standardise(pairs)
    found = mapping(torch.from_numpy(np.stack([one.proxy for one in pairs]))).detach().numpy()
    exact = [ProtectedPair(one.proxy, answer) for one, answer in zip(pairs, found, strict=True)]
    assert loss_of(mapping, exact) == pytest.approx(0, abs=1e-6)
    batch = {
        "image": torch.from_numpy(np.stack([one.proxy for one in exact])),
        "mask": torch.from_numpy(found),
    }
    MappingLoss(mapping)(batch).backward()
    assert all(torch.isfinite(weight.grad).all() for weight in mapping.parameters())
