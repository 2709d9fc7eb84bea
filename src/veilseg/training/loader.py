"""Batches by step, made by processes of their own."""

import os
from collections.abc import Callable, Iterator, Sequence, Sized
from itertools import islice
from multiprocessing.synchronize import Semaphore
from typing import cast

import torch
import torch.multiprocessing as multiprocessing
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate, get_worker_info

Batch = dict[str, Tensor]

MOST_WORKERS = 8
# Made in one go. In memory at once: so many batches, and as many again under way.
BATCHES_AHEAD = 8
SECONDS_PER_LOOK = 5.0


def batches(
    examples: Dataset[Batch],
    size: int,
    step: int = 0,
    rank: int = 0,
    world_size: int = 1,
    prepare: Callable[[Batch, int], Batch] | None = None,
    in_turn: bool = True,
) -> Iterator[Batch]:
    """Batches from a step on.

    Parameters
    ----------
    examples : sized Dataset
        As many as whole batches have.
    size : int
        Examples per step, over all training processes.
    step : int
        The first step.
    rank, world_size : int
        Of several training processes, each takes its part of every batch. Where parts cannot be
        equal, the last ones are filled up with examples that do not count, for all processes have
        to take every step together: batches then have ``counted``, 1 or 0 for each example.
    prepare : callable or None
        What is done to each batch, given it and its step: where it is made, so that what is cut
        off is never passed on.
    in_turn : bool
        Whether examples are made while nothing is fitted. On a CPU both want the same cores, and
        the threads of a step wait for the slowest of them: side by side, both take longer than one
        after the other. False where the fit is on another device.
    """
    workers = min(torch.get_num_threads(), MOST_WORKERS)
    ahead = -(-BATCHES_AHEAD // workers)
    # One each: batches come from the workers in a fixed order.
    turns = [multiprocessing.Semaphore(0) for _ in range(workers)]
    made = _Batches(examples, size, (rank, world_size), prepare, turns)
    loader = DataLoader(
        made,
        batch_size=None,
        sampler=range(step, len(made)),
        num_workers=workers,
        prefetch_factor=ahead,
        worker_init_fn=_one_thread,
    )
    stream = iter(loader)
    if not in_turn:
        _release(turns, len(made))
    try:
        while True:
            if in_turn:
                _release(turns, ahead)
            some = list(islice(stream, ahead * workers if in_turn else 1))
            if not some:
                return
            yield from some
    finally:
        _release(turns, 1)  # or whoever waits there would not hear that it is over


def _release(turns: Sequence[Semaphore], number: int) -> None:
    for turn in turns:
        for _ in range(number):
            turn.release()


class _Batches(Dataset[Batch]):
    """One process' part of each batch, by step; each is made when there is a turn for it."""

    def __init__(
        self,
        examples: Dataset[Batch],
        size: int,
        part: tuple[int, int],
        prepare: Callable[[Batch, int], Batch] | None,
        turns: Sequence[Semaphore],
    ) -> None:
        rank, world_size = part
        share = -(-size // world_size)
        self.examples, self.size = examples, size
        self.places = range(rank * share, (rank + 1) * share)
        self.equal_parts = size % world_size == 0
        self.prepare, self.turns, self.parent = prepare, turns, os.getpid()

    def __len__(self) -> int:
        return len(cast(Sized, self.examples)) // self.size

    def __getitem__(self, step: int) -> Batch:
        worker = get_worker_info()
        turn = self.turns[0 if worker is None else worker.id]
        while not turn.acquire(timeout=SECONDS_PER_LOOK):
            if os.getppid() != self.parent:
                os._exit(1)  # it was killed: there will be no turn any more
        numbers = [step * self.size + min(place, self.size - 1) for place in self.places]
        batch: Batch = default_collate([self.examples[number] for number in numbers])
        if not self.equal_parts:
            counted = [float(place < self.size) for place in self.places]
            batch["counted"] = torch.tensor(counted)
        return batch if self.prepare is None else self.prepare(batch, step)


def _one_thread(worker: int) -> None:  # noqa: ARG001 - the loader passes its number
    torch.set_num_threads(1)
