"""The models a server hosts, by name and version, changed while it answers."""

import re
import threading
from collections.abc import Iterable, Iterator
from typing import Final

from veilseg.errors import InvalidInput
from veilseg.serving.errors import UnknownModel
from veilseg.serving.models import ServedModel
from veilseg.wire.tensors import brief

# Directory that holds the model in the bundle's Triton layout; clients written against a
# Triton server that hosts the same bundle ask for this version.
TRITON_VERSION: Final = "1"


class ModelRepository:
    """All models of a server. Safe to read and change from any thread.

    Parameters
    ----------
    models : iterable of ServedModel

    Raises
    ------
    InvalidInput
        If two have the same name and version.
    """

    def __init__(self, models: Iterable[ServedModel] = ()) -> None:
        self._changing = threading.Lock()
        # Replaced as a whole, never changed: whoever reads it meets one state or the other.
        self._models: dict[str, dict[str, ServedModel]] = {}
        for model in models:
            versions = self._models.setdefault(model.name, {})
            require_distinct(model.name, [*versions, model.version])
            versions[model.version] = model

    def __iter__(self) -> Iterator[ServedModel]:
        return (model for versions in self._models.values() for model in versions.values())

    @property
    def ready(self) -> bool:
        """Whether every model answers, which is what the protocol calls a ready server."""
        return all(model.failure is None for model in self)

    def versions(self, name: str) -> tuple[str, ...]:
        """Versions of a model, oldest first; none if there is no such model."""
        return tuple(sorted(self._models.get(name, {}), key=_by_number))

    def get(self, name: str, version: str | None = None) -> ServedModel:
        """The model of that name.

        Parameters
        ----------
        name : str
        version : str, optional
            The bundle's version. Without one, or with "1" as a Triton server would call the
            only version of a bundle, the newest that answers.

        Raises
        ------
        UnknownModel
            If there is none, or not in that version.
        """
        versions = self._models.get(name)
        if not versions:
            raise UnknownModel(f"unknown model {brief(name)}")
        if version in versions:
            return versions[version]
        if version not in (None, TRITON_VERSION):
            raise UnknownModel(f"unknown version {brief(version)} of model {brief(name)}")
        return max(versions.values(), key=lambda m: (m.failure is None, _by_number(m.version)))

    def replace(self, name: str, models: Iterable[ServedModel]) -> list[ServedModel]:
        """Host these versions of a model and no others; gives those that are hosted no more."""
        wanted = {model.version: model for model in models}
        with self._changing:
            before = self._models.get(name, {})
            others = {key: kept for key, kept in self._models.items() if key != name}
            self._models = {**others, name: wanted} if wanted else others
        return [model for model in before.values() if wanted.get(model.version) is not model]


def require_distinct(name: str, versions: list[str]) -> None:
    """Raise :class:`InvalidInput` if a version of a model is given twice."""
    for version in versions:
        if versions.count(version) > 1:
            raise InvalidInput(f"two bundles are {name} {version}: serve one of them")


def _by_number(version: str) -> list[tuple[int, int, str]]:
    """Order of versions: 1.10 after 1.9, and 1.0-rc1 before 1.0."""
    parts = re.findall(r"\d+|[a-z]+", version.lower())
    ranked = [(2, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]
    return [*ranked, (1, 0, "")]
