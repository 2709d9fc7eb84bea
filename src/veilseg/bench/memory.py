"""How much memory a server takes, as it says itself."""

import re

import httpx

from veilseg.errors import InvalidAnswer
from veilseg.wire.paths import METRICS

RESIDENT = re.compile(r"^process_resident_memory_bytes (\S+)$", re.MULTILINE)


def resident_mib(url: str) -> float:
    """Resident memory of the server process, MiB.

    Raises
    ------
    InvalidAnswer
        If its metrics do not say, or not soon.
    """
    try:
        text = httpx.get(f"{url}{METRICS}").text
    except httpx.HTTPError as error:
        raise InvalidAnswer(f"{url}{METRICS}: {type(error).__name__}") from error
    found = RESIDENT.search(text)
    if found is None:
        raise InvalidAnswer(f"{url}{METRICS}: no process_resident_memory_bytes")
    return float(found[1]) / 2**20
