"""Pauses that grow while somebody is away."""

import random
from typing import Final

FIRST_S: Final = 1.0
LONGEST_S: Final = 300.0


class Backoff:
    """Twice the last pause each time, up to five minutes, shortened at random.

    Many watchers that lost one PACS must not all come back to it in one moment.
    """

    def __init__(self) -> None:
        self._failures = 0

    def pause_s(self) -> float:
        """How long to wait now."""
        # A float overflows beyond a thousand doublings.
        whole: float = min(LONGEST_S, FIRST_S * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return whole * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """It went well."""
        self._failures = 0
