"""Who may come in: places that bound the memory, and how often a site may ask."""

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator

from veilseg.serving.errors import TooManyRequests, TooManyWaiting


class Places:
    """Places for the requests of one model that are read, wait or run.

    A site that has no request inside is always let in: however many places the others take,
    nobody is kept out. So at most ``total`` places and one per further site are taken, which
    bounds the memory.

    Parameters
    ----------
    total, per_site : int
    """

    def __init__(self, total: int, per_site: int) -> None:
        self._total = total
        self._per_site = per_site
        self._inside: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._inside.total()

    @contextlib.contextmanager
    def place(self, site: str, retry_after_s: float = 1.0) -> Iterator[None]:
        """Take a place for a request.

        Raises
        ------
        TooManyWaiting
            If there is none for this site.
        """
        own = self._inside[site]
        if own >= self._per_site or (own and len(self) >= self._total):
            raise TooManyWaiting("too many requests are waiting for this model", retry_after_s)
        self._inside[site] += 1
        try:
            yield
        finally:
            self._inside[site] -= 1
            if not self._inside[site]:
                del self._inside[site]


class RateLimit:
    """A bucket of tokens for each site, filled at a steady rate.

    Parameters
    ----------
    per_minute : float
        0 is without limit.
    burst : int
        Requests that may come at once after a pause.
    clock : callable
        Monotonic seconds.
    """

    def __init__(
        self, per_minute: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_s = per_minute / 60
        self._burst = burst
        self._clock = clock
        # Sites come from the tokens file, so that they are few.
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, site: str) -> None:
        """Count a request.

        Raises
        ------
        TooManyRequests
            If the site's bucket is empty; says when it will not be.
        """
        if not self._per_s:
            return
        now = self._clock()
        left, then = self._left.get(site, (float(self._burst), now))
        left = min(float(self._burst), left + (now - then) * self._per_s)
        if left < 1:
            self._left[site] = left, now
            raise TooManyRequests(
                "too many requests of this site", math.ceil((1 - left) / self._per_s)
            )
        self._left[site] = left - 1, now
