"""A discriminator that finds people where they can be found; gradients that are turned round."""

import math

import pytest
import torch

from veilseg.networks.identity import SiameseDiscriminator, reversed_gradient

SIDE, PEOPLE = 16, 8


def images(shown, seed):
    """Two images of each person: a pattern of their own under noise, or noise alone."""
    rng = torch.Generator().manual_seed(seed)
    pattern = torch.rand(PEOPLE, 1, 4, 4, generator=rng)
    pattern = torch.nn.functional.interpolate(pattern, SIDE)
    noise = torch.rand(2, PEOPLE, 1, SIDE, SIDE, generator=rng)
    return tuple((pattern if shown else 0) + 0.3 * noise)


@pytest.mark.parametrize("shown", [True, False])
def test_people_are_told_apart_only_where_they_are_shown(shown):
    """Positive and null control: trained on some people, tried on others."""
    torch.manual_seed(0)
    network = SiameseDiscriminator(2, 1)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    person = torch.arange(PEOPLE)
    for step in range(60):
        optimizer.zero_grad()
        network.loss(*images(shown, 100 + step), person).backward()
        optimizer.step()
    with torch.no_grad():
        tried = [(network(*images(shown, seed)), torch.eye(PEOPLE)) for seed in range(10)]
    own, other = (torch.cat([f[t == side] for f, t in tried]) for side in (1, 0))
    # How likely a pair of one person is rated higher; 80 and 560 pairs: a deviation of 0.034.
    auc = float((own[:, None] > other[None]).float().mean())
    assert auc > 0.95 if shown else abs(auc - 0.5) < 0.15


def test_guessing_costs_log_two_however_many_pairs_are_of_different_people():
    network = SiameseDiscriminator(2, 1)
    with torch.no_grad():
        network.slope.zero_()
    loss = network.loss(*images(True, 0), torch.arange(PEOPLE))
    assert float(loss.detach()) == pytest.approx(math.log(2))


def test_two_cases_of_one_person_are_the_same():
    torch.manual_seed(1)
    network = SiameseDiscriminator(2, 1)
    first, second = images(True, 0)
    pairs = network.loss(first[:2], second[:2], torch.tensor([3.0, 3.0]))
    logits = network(first[:2], second[:2])
    torch.testing.assert_close(pairs, -torch.nn.functional.logsigmoid(logits).mean())


def test_fillers_of_a_batch_do_not_count():
    torch.manual_seed(1)
    network = SiameseDiscriminator(2, 1)
    first, second = images(True, 0)
    person, counted = torch.arange(PEOPLE), torch.ones(PEOPLE)
    counted[3:] = 0
    found = network.loss(first, second, person, counted)
    torch.testing.assert_close(found, network.loss(first[:3], second[:3], person[:3]))
    assert float(network.loss(first, second, person, torch.zeros(PEOPLE)).detach()) == 0


def test_gradient_is_turned_round_and_the_maps_are_not():
    maps = torch.rand(3, requires_grad=True)
    found = reversed_gradient(maps, 0.25)
    assert torch.equal(found, maps)
    (found * torch.tensor([1.0, 2.0, 4.0])).sum().backward()
    torch.testing.assert_close(maps.grad, -0.25 * torch.tensor([1.0, 2.0, 4.0]))
