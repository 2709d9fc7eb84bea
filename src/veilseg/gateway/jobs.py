"""Work that takes long: a few at a time, with progress, until nobody waits for it any more."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

from veilseg.client.pipeline import Progress
from veilseg.gateway.errors import Cancelled
from veilseg.serving.errors import Draining, TooManyWaiting

Found = TypeVar("Found")


class Job(Generic[Found]):
    """One piece of work, waiting or running.

    Attributes
    ----------
    result : Future
        Holds what the work gave or raised.
    done, total : int
        Tiles; 0 of 0 before the first.
    """

    def __init__(self) -> None:
        self.result: Future[Found]
        self.done = 0
        self.total = 0
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """End it: before it begins, or between two tiles."""
        self._cancelled.set()
        self.result.cancel()

    def report(self, done: int, total: int) -> None:
        """Note progress.

        Raises
        ------
        Cancelled
            If it has to end.
        """
        self.done, self.total = done, total
        self.require_wanted()

    def require_wanted(self) -> None:
        """Raise :class:`Cancelled` if it has to end."""
        if self._cancelled.is_set():
            raise Cancelled("cancelled")


class Jobs:
    """What runs and waits.

    Parameters
    ----------
    workers : int
        That run at a time.
    places : int
        That run or wait at a time.
    """

    def __init__(self, workers: int, places: int) -> None:
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="segmenting")
        self._places = places
        self._lock = threading.Lock()
        self._inside: set[Job[object]] = set()
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._ended = True
            inside = list(self._inside)
        for job in inside:
            job.cancel()
        self._threads.shutdown()

    def begin(self, work: Callable[[Progress], Found]) -> Job[Found]:
        """Have work done as soon as there is a thread for it.

        Parameters
        ----------
        work : callable
            Is given where to report progress, which raises when it has to end.

        Raises
        ------
        TooManyWaiting
            If no place is left.
        Draining
            If the gateway is about to end.
        """
        job: Job[Found] = Job()

        def run() -> Found:
            job.require_wanted()
            return work(job.report)

        with self._lock:
            if self._ended:
                raise Draining("the gateway is about to end")
            if len(self._inside) >= self._places:
                raise TooManyWaiting("too many images are being segmented: try again")
            job.result = self._threads.submit(run)
            self._inside.add(job)  # type: ignore[arg-type]  # only cancelled from there
        job.result.add_done_callback(lambda _: self._leave(job))
        return job

    def _leave(self, job: Job[Found]) -> None:
        with self._lock:
            self._inside.discard(job)
