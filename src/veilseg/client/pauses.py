"""How long to wait before a server is asked again."""

import contextlib
import email.utils
import random
import time
from typing import Final

FIRST_BACKOFF_S: Final = 0.25
LONGEST_BACKOFF_S: Final = 8.0
# A server may ask for any pause; a clinician waiting for a segmentation will not.
LONGEST_RETRY_AFTER_S: Final = 30.0


def backoff_s(attempt: int) -> float:
    """After so many failed attempts, in seconds."""
    # Jitter, so that the sites that one restart cut off do not all come back at once.
    longest = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(attempt, 10))
    return random.uniform(longest / 2, longest)


def retry_after_s(header: str | None) -> float:
    """What a server asks for, as a number or as a date, up to half a minute; 0 if neither."""
    asked = 0.0
    if header is not None and header.strip().isdecimal():
        asked = float(header)
    elif header is not None:
        with contextlib.suppress(ValueError, OverflowError):
            asked = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
    return min(max(0.0, asked), LONGEST_RETRY_AFTER_S)
