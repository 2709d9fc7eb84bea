"""Every example is a function of seed and number, however the loader starts."""

import gc
import multiprocessing
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from veilseg.training.batches import Examples
from veilseg.training.loader import BATCHES_AHEAD, batches
from veilseg.training.run import LARGEST_BATCH, batch_size

TILE = (16, 16, 16)


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_an_example_is_the_same_whenever_it_is_made(make_mixup, cases):
    examples = Examples(make_mixup(), cases, TILE, 12, seed=3)
    once = [examples[number] for number in range(12)]
    again = Examples(make_mixup(), cases, TILE, 12, seed=3)
    for number in (7, 2, 11, 7, 0):
        assert equal(again[number], once[number])
    assert not equal(Examples(make_mixup(), cases, TILE, 12, seed=4)[7], once[7])
    assert not equal(once[0], once[5])


def test_loader_that_starts_late_gives_what_is_left(make_mixup, cases):
    examples = Examples(make_mixup(), cases, TILE, 8, seed=3)
    whole = list(batches(examples, 2))
    assert len(whole) == 4
    rest = list(batches(examples, 2, step=2))
    assert len(rest) == 2
    for found, expected in zip(rest, whole[2:], strict=True):
        assert equal(found, expected)
    for number in range(2):
        assert torch.equal(whole[1]["proxy"][number], examples[2 + number]["proxy"])


def test_processes_take_equal_parts_of_every_batch(make_mixup, cases):
    examples = Examples(make_mixup(), cases, TILE, 12, seed=3)
    whole = list(batches(examples, 4, step=1))
    parts = [list(batches(examples, 4, 1, rank, 2)) for rank in range(2)]
    assert [len(part) for part in parts] == [len(whole)] * 2 == [2, 2]
    for expected, *found in zip(whole, *parts, strict=True):
        together = {name: torch.cat([part[name] for part in found]) for name in expected}
        assert equal(together, expected)


@pytest.mark.parametrize(("size", "processes"), [(3, 2), (1, 2), (4, 3)])
def test_what_cannot_be_shared_equally_is_filled_up(make_mixup, cases, size, processes):
    examples = Examples(make_mixup(), cases, TILE, 2 * size, seed=3)
    whole = list(batches(examples, size))
    parts = [list(batches(examples, size, 0, rank, processes)) for rank in range(processes)]
    for expected, *found in zip(whole, *parts, strict=True):
        # All have as many, or one would wait for the others.
        assert len({len(part["counted"]) for part in found}) == 1
        counted = torch.cat([part["counted"] for part in found]).bool()
        together = {name: torch.cat([part[name] for part in found])[counted] for name in expected}
        assert equal(together, expected)


def test_examples_are_made_in_turn_with_the_fit(make_mixup, cases):
    made = multiprocessing.Value("i", 0)

    class Told(Examples):
        def __getitem__(self, number):
            with made.get_lock():
                made.value += 1
            return super().__getitem__(number)

    stream = batches(Told(make_mixup(), cases, TILE, 40, seed=3), 1)
    for taken in range(1, 41):
        next(stream)
        of_turns = -(-taken // BATCHES_AHEAD) * BATCHES_AHEAD
        time.sleep(0.02)  # had another been begun, it would be counted by now
        assert made.value == min(of_turns, 40)
    assert next(stream, None) is None


def test_whoever_stops_early_leaves_no_process_behind(make_mixup, cases):
    stream = batches(Examples(make_mixup(), cases, TILE, 40, seed=3), 1)
    next(stream)
    assert multiprocessing.active_children()
    started = time.monotonic()
    stream.close()
    gc.collect()
    assert not multiprocessing.active_children()
    assert time.monotonic() - started < 4, "they were told, and not killed after a while"


ORPHANS = """
import os
import torch
from veilseg.training import loader
loader.SECONDS_PER_LOOK = 0.2

class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 40
    def __getitem__(self, number):
        return {"process": torch.tensor(os.getpid())}

stream = loader.batches(Numbers(), 1)
print({int(next(stream)["process"]) for _ in range(loader.BATCHES_AHEAD)}, flush=True)
os.kill(os.getpid(), 9)
"""


def test_workers_end_when_whoever_trains_is_killed():
    command = [sys.executable, "-c", ORPHANS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        workers = {int(one) for one in process.stdout.readline().strip("{}\n").split(", ")}
    assert workers
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{one}").exists() for one in workers):
        assert time.monotonic() < deadline, "left behind"
        time.sleep(0.1)


def test_what_is_done_to_a_batch_knows_its_step(make_mixup, cases):
    examples = Examples(make_mixup(), cases, TILE, 6, seed=3)
    told = batches(examples, 2, step=1, prepare=lambda batch, step: batch | {"step": step})
    assert [batch["step"] for batch in told] == [1, 2]


def test_global_random_state_does_not_matter(make_mixup, cases):
    examples = Examples(make_mixup(), cases, TILE, 2, seed=3)
    np.random.seed(1)
    torch.manual_seed(1)
    first = examples[1]
    np.random.seed(2)
    torch.manual_seed(2)
    assert equal(examples[1], first)


def test_each_pass_uses_every_case_once(make_mixup, cases):
    seen = []
    scheme = make_mixup()
    scheme.example = lambda case, rng: seen.append(case.name) or {"x": case.image}
    examples = Examples(scheme, cases, TILE, 15, seed=0, augment=False)
    for number in range(15):
        examples[number]
    passes = [seen[:5], seen[5:10], seen[10:]]
    assert all(sorted(names) == [case.name for case in cases] for names in passes)
    assert passes[0] != passes[1] or passes[1] != passes[2]


def test_crops_are_cut_alike_from_all_arrays(cases):
    place = np.arange(16**3, dtype=np.float32).reshape(1, 16, 16, 16)

    class Marked:
        def example(self, case, rng):
            return {"image": place, "maps": np.concatenate([place, -place]), "a": np.float32(0.5)}

    examples = Examples(Marked(), cases, (8, 8, 16), 20, seed=0, augment=False)
    corners = set()
    for number in range(20):
        found = examples[number]
        assert found["image"].shape == (1, 8, 8, 16)
        assert torch.equal(found["maps"][:1], found["image"])
        assert torch.equal(found["maps"][1:], -found["image"])
        assert found["a"] == 0.5
        corners.add(float(found["image"].flatten()[0]))
    assert len(corners) > 5


def test_augmented_cases_keep_their_emptiness_and_their_classes(make_mixup, cases):
    scheme = make_mixup()
    kept = []
    scheme.example = lambda case, rng: kept.append(case) or {"x": case.image}
    examples = Examples(scheme, cases, TILE, 30, seed=0)
    for number in range(30):
        examples[number]
    for case in kept:
        assert case.image.dtype == np.float32
        assert case.labels.dtype == np.uint8
        assert set(np.unique(case.labels)) <= {0, 1}
        assert case.image.max() <= 1
        # Present voxels are told from empty ones exactly: nothing lies between 0 and 2^-10.
        assert (case.image[case.image > 0] >= 2.0**-10).all()
        assert (case.image == 0).any()


def test_batch_size_follows_the_tile():
    assert batch_size((104, 128, 96)) == 1
    assert batch_size((40, 56, 40)) == 2
    assert batch_size((8, 8, 8)) == LARGEST_BATCH
    assert batch_size((256, 256)) == 1
    assert batch_size((96, 96)) == 7
    assert batch_size((32, 32)) == LARGEST_BATCH
