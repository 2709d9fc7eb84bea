"""Tiles of all sites through one network: a fair queue, batches of one size, deadlines."""

import contextlib
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Final, Generic, Protocol, TypeVar

import numpy as np

from veilseg.serving.errors import DeadlinePassed, ModelError, ModelNotReady
from veilseg.wire.tensors import FloatArray

# Of the time a batch took, the share that the last one contributes to the estimate.
_NEWEST: Final = 0.2

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Items of several sites, taken from each site in turn.

    All tiles of a model cost the same, so that taking turns by tile shares out the time: a site
    that sends a thousand delays another's tile by one tile, not by a thousand.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[Item]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, site: str, item: Item) -> None:
        """Let an item wait behind those of its site."""
        self._waiting.setdefault(site, deque()).append(item)
        self._count += 1

    def take(self) -> Item:
        """The next item of the site whose turn it is. Raises :class:`KeyError` if empty."""
        site, items = self._waiting.popitem(last=False)
        item = items.popleft()
        self._count -= 1
        if items:
            self._waiting[site] = items
        return item

    def keep(self, site: str, wanted: Callable[[Item], bool]) -> None:
        """Let go of those items of a site that are not wanted any more; its turn stays."""
        items = self._waiting.get(site, deque())
        left = deque(filter(wanted, items))
        self._count -= len(items) - len(left)
        if left:
            self._waiting[site] = left
        else:
            self._waiting.pop(site, None)


class Job:
    """The tiles of one request on their way through a network.

    Attributes
    ----------
    answers : Future of ndarray, shape (n, K, X, Y, Z)
        Cancelling it takes the tiles that still wait out of the queue.
    """

    def __init__(self, tiles: FloatArray, deadline: float, now: float) -> None:
        self.answers: Future[FloatArray] = Future()
        self.tiles = tiles
        self.deadline = deadline
        self.begun = now
        self._found: list[FloatArray | None] = [None] * len(tiles)
        self._left = len(tiles)
        self._counting = threading.Lock()

    def answer(self, index: int, found: FloatArray | ModelError) -> None:
        """Take the answer of one tile; the last one, or an error, ends the job."""
        if isinstance(found, ModelError):
            self.fail(found)
            return
        self._found[index] = found
        with self._counting:
            self._left -= 1
            last = self._left == 0
        if last:
            try:
                whole = np.stack([one for one in self._found if one is not None])
            except MemoryError:
                self.fail(ModelError("no memory for the answer"))
                return
            # Cancelled in this very moment: nobody wants it any more.
            with contextlib.suppress(InvalidStateError):
                self.answers.set_result(whole)

    def fail(self, error: ModelError) -> None:
        """End the job with an error."""
        with contextlib.suppress(InvalidStateError):
            self.answers.set_exception(error)


class Observer(Protocol):
    """Who wants to know how batches go."""

    def batch(self, tiles: int, waited_s: Sequence[float], seconds: float) -> None:
        """A batch of so many tiles was computed; ``waited_s`` is one number for each tile."""
        ...


class Batcher:
    """One network's queue and the threads that work it off.

    Parameters
    ----------
    compute : callable
        Takes (n, C, X, Y, Z) with n up to ``batch_size``; gives an answer or error per tile.
    batch_size : int
    wait_s : float
        How long the oldest tile waits for others to fill its batch.
    observer : Observer, optional
    clock : callable
        Monotonic seconds.
    workers : int
        Batches that are computed side by side; ``compute`` is called by so many threads.
    """

    def __init__(
        self,
        compute: Callable[[FloatArray], list[FloatArray | ModelError]],
        batch_size: int = 1,
        wait_s: float = 0.0,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
        workers: int = 1,
    ) -> None:
        self._compute = compute
        self._batch_size = batch_size
        self._wait_s = wait_s
        self._observer = observer
        self._clock = clock
        self._queue: FairQueue[tuple[Job, int]] = FairQueue()
        self._changed = threading.Condition()
        self._closed = False
        self._batch_s = 0.0
        self._threads = [
            threading.Thread(target=self._work, name="batcher", daemon=True) for _ in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def seconds_behind(self) -> float:
        """How long what waits now will take, by what batches took so far."""
        return self._batch_s * -(-len(self._queue) // (self._batch_size * len(self._threads)))

    def submit(self, tiles: FloatArray, site: str, deadline_s: float) -> Job:
        """Let tiles wait for their turn.

        Parameters
        ----------
        tiles : ndarray, shape (n, C, X, Y, Z)
        site : str
            Whose turn it takes.
        deadline_s : float
            Seconds from now; a tile that has not begun by then is not computed any more.

        Returns
        -------
        Job
            Its ``answers`` end with the answers, with :class:`DeadlinePassed`, or with what went
            wrong.
        """
        now = self._clock()
        job = Job(tiles, now + deadline_s, now)
        with self._changed:
            if self._closed:
                raise ModelNotReady("this model is being unloaded")
            for index in range(len(tiles)):
                self._queue.put(site, (job, index))
            self._changed.notify_all()
        job.answers.add_done_callback(lambda answers: self._forget(site, job, answers))
        return job

    def _forget(self, site: str, job: Job, answers: "Future[FloatArray]") -> None:
        """What nobody waits for any more gives its body back, however busy other sites are."""
        if answers.cancelled() or answers.exception() is not None:
            with self._changed:
                self._queue.keep(site, lambda item: item[0] is not job)

    def close(self) -> None:
        """Answer what waits, take nothing more, end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while batch := self._next_batch():
            jobs = [job for job, _ in batch]
            begun = self._clock()
            try:
                found = self._compute(np.stack([job.tiles[index] for job, index in batch]))
            # Whatever it is, the thread goes on and the requests get an answer; no message is
            # passed on, since array libraries quote data.
            except Exception as error:  # noqa: BLE001
                found = [ModelError(f"the model failed ({type(error).__name__})")] * len(batch)
            seconds = self._clock() - begun
            with self._changed:
                self._batch_s += (seconds - self._batch_s) * (_NEWEST if self._batch_s else 1)
            for (job, index), answer in zip(batch, found, strict=True):
                job.answer(index, answer)
            if self._observer is not None:
                self._observer.batch(len(batch), [begun - job.begun for job in jobs], seconds)

    def _next_batch(self) -> list[tuple[Job, int]]:
        """Tiles that are still wanted; empty when closed and done."""
        with self._changed:
            while True:
                while not len(self._queue):
                    if self._closed:
                        return []
                    self._changed.wait()
                if self._wait_s and len(self._queue) < self._batch_size and not self._closed:
                    full = lambda: len(self._queue) >= self._batch_size or self._closed  # noqa: E731
                    self._changed.wait_for(full, self._wait_s)
                batch: list[tuple[Job, int]] = []
                while len(batch) < self._batch_size and len(self._queue):
                    job, index = self._queue.take()
                    if job.answers.done():
                        continue
                    if self._clock() >= job.deadline:
                        job.fail(DeadlinePassed("the answer was not computed in time"))
                        continue
                    batch.append((job, index))
                if batch:
                    return batch
