"""The loss by closed forms."""

import json
import math
import multiprocessing

import pytest
import torch
import torch.distributed as distributed
from hypothesis import given, settings
from hypothesis import strategies as st

from veilseg.training.losses import soft_target_loss


def mixed_target(seed, a, classes=4):
    generator = torch.Generator().manual_seed(seed)
    maps = [
        torch.nn.functional.one_hot(
            torch.randint(classes, (2, 6, 5, 4), generator=generator), classes
        ).movedim(-1, 1)
        for _ in range(2)
    ]
    return a * maps[0] + (1 - a) * maps[1]


@given(st.integers(0, 2**31), st.floats(0.1, 0.9))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_perfect_prediction_of_a_mixture_costs_its_entropy_alone(seed, a):
    target = mixed_target(seed, a)
    smooth = 0.97 * target + 0.03 / 4  # logarithms must exist
    entropy = -(smooth * smooth.log()).sum(dim=1).mean()
    # The Dice term is 1 - 1, so nothing is added.
    assert float(soft_target_loss(smooth.log(), smooth)) == pytest.approx(float(entropy), abs=1e-5)


def test_perfect_prediction_of_labels_costs_nothing():
    target = mixed_target(0, 1.0)
    assert float(soft_target_loss(100 * target, target)) == pytest.approx(0, abs=1e-5)


def test_wholly_wrong_prediction_costs_its_confidence_and_all_of_dice():
    target = torch.zeros(1, 2, 4, 4)
    target[:, 1] = 1
    logits = torch.zeros(1, 2, 4, 4)
    logits[:, 0] = 20
    # Cross-entropy log(1 + e^20) = 20, Dice 0.
    assert float(soft_target_loss(logits, target)) == pytest.approx(21, abs=1e-3)


def test_indifferent_prediction():
    target = torch.zeros(1, 2, 4, 4)
    target[:, 1, :2] = target[:, 0, 2:] = 1
    # p = ½ everywhere, m = 1 on half: 2·½·½ / (¼ + ½) = ⅔.
    expected = math.log(2) + 1 - 2 / 3
    assert float(soft_target_loss(torch.zeros(1, 2, 4, 4), target)) == pytest.approx(
        expected, abs=1e-4
    )


@given(st.integers(0, 2**31))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_the_mixture_is_where_the_loss_is_least(seed):
    target = 0.97 * mixed_target(seed, 0.5) + 0.03 / 4
    logits = target.log().requires_grad_()
    loss = soft_target_loss(logits, target)
    loss.backward()
    assert logits.grad.abs().max() < 1e-6
    generator = torch.Generator().manual_seed(seed)
    for scale in (0.1, 1.0):
        other = logits.detach() + scale * torch.randn(logits.shape, generator=generator)
        assert soft_target_loss(other, target) > loss


def test_half_precision_logits_do_not_overflow():
    target = mixed_target(0, 0.5)
    assert torch.isfinite(soft_target_loss(1e3 * torch.randn(2, 4, 6, 5, 4).bfloat16(), target))


# Parts of one batch that differ in size of foreground: the mean of their Dice is not its Dice.
PARTS = 2


def whole_batch():
    target = torch.zeros(4, 3, 8, 8)
    for number, size in enumerate((8, 7, 2, 1)):
        target[number, 1, :size, :4] = 1
        target[number, 2, :size, 4:] = 1
    target[:, 0] = 1 - target[:, 1:].sum(dim=1)
    logits = torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    return logits, target


def loss_and_gradient(logits, target, counted=None):
    logits = logits.clone().requires_grad_()
    loss = soft_target_loss(logits, target, counted)
    loss.backward()
    return float(loss.detach()), logits.grad


def of_part(rank, folder, shares):
    torch.set_num_threads(1)
    address = f"file://{folder / 'rendezvous'}"
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=PARTS)
    places, counts = shares[rank]
    logits, target = (tensor[places] for tensor in whole_batch())
    counted = None if counts is None else torch.tensor(counts)
    loss, gradient = loss_and_gradient(logits, target, counted)
    (folder / str(rank)).write_text(json.dumps([loss, gradient.tolist()]))
    distributed.destroy_process_group()


EQUAL = (([0, 1], None), ([2, 3], None))
# Three examples for two processes: the last is there twice and counts once.
UNEQUAL = (([0, 1], [1.0, 1.0]), ([2, 2], [1.0, 0.0]))
# One for two: the second process has none of its own.
ALONE = (([0], [1.0]), ([0], [0.0]))


@pytest.mark.parametrize("shares", [EQUAL, UNEQUAL, ALONE], ids=["equal", "unequal", "alone"])
def test_processes_together_have_the_loss_and_gradient_of_the_whole_batch(tmp_path, shares):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=of_part, args=(r, tmp_path, shares)) for r in range(PARTS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * PARTS
    found = [json.loads((tmp_path / str(rank)).read_text()) for rank in range(PARTS)]
    own = [
        [place for place, count in zip(places, counts or [1] * len(places), strict=True) if count]
        for places, counts in shares
    ]
    batch = [place for places in own for place in places]
    loss, gradient = loss_and_gradient(*(tensor[batch] for tensor in whole_batch()))
    assert sum(part[0] for part in found) / PARTS == pytest.approx(loss, abs=1e-5)
    # Gradients are averaged over processes; each logit belongs to one of them.
    together = [torch.tensor(part[1])[: len(one)] for part, one in zip(found, own, strict=True)]
    torch.testing.assert_close(torch.cat(together) / PARTS, gradient, atol=1e-7, rtol=1e-4)
    # What does not count has no gradient.
    for part, one in zip(found, own, strict=True):
        assert not torch.tensor(part[1])[len(one) :].any()


def test_parts_for_themselves_would_have_another_dice():
    loss, _ = loss_and_gradient(*whole_batch())
    logits, target = (tensor.chunk(PARTS) for tensor in whole_batch())
    apart = [loss_and_gradient(*part)[0] for part in zip(logits, target, strict=True)]
    assert abs(sum(apart) / PARTS - loss) > 0.02
