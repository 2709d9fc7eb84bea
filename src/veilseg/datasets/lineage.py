"""The runs that weights went through: a fine-tuning has seen what its start has seen."""

from collections.abc import Iterator, Mapping
from typing import Any

Provenance = Mapping[str, Any]


def runs_behind(provenance: Provenance) -> Iterator[Provenance]:
    """Provenance of a bundle and of the bundles it started from, the latest first."""
    yield provenance
    while start := provenance.get("init"):
        provenance = start["provenance"]
        yield provenance


def same_patients(provenance: Provenance, patients_sha256: str) -> bool:
    """Whether everybody was who they are now when weights were trained: else a split of the same
    data holds out others. True where a bundle does not say."""
    return all(
        run.get("patients_sha256") in (None, patients_sha256) for run in runs_behind(provenance)
    )


def has_seen_held_out(provenance: Provenance, data_sha256: str, fold: str | None) -> bool:
    """Whether weights have seen patients whom a fold of some data holds out.

    Parameters
    ----------
    provenance : mapping
        Of the bundle with the weights.
    data_sha256 : str
        Content hash of the data set. Other data may hold the same people: nobody can tell.
    fold : str or None
        As ``"2/5"``; None for the default split.
    """
    return any(
        run.get("data_sha256") == data_sha256 and run.get("fold") != fold
        for run in runs_behind(provenance)
    )
