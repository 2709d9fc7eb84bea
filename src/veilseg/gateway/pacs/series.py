"""A series that a PACS holds or sent."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class FoundSeries:
    """A series, and as much of it as rules ask for.

    Attributes
    ----------
    study, series : str
        UIDs.
    images : int
        How many there are now.
    attributes : mapping of keyword to value
    """

    study: str
    series: str
    images: int
    attributes: Mapping[str, str]
