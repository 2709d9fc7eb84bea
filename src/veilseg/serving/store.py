"""Bundles on disk, taken into a running server and out of it again."""

import json
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from veilseg.bundle import ServerBundle, open_server_half
from veilseg.errors import InvalidInput, VeilsegError
from veilseg.serving.errors import NotLoaded, UnknownModel
from veilseg.serving.models import ServedModel
from veilseg.serving.repository import ModelRepository, require_distinct
from veilseg.wire.tensors import brief

logger = logging.getLogger(__name__)

MANIFEST = Path("server", "manifest.json")


class ModelStore:
    """Bundles named at the start and those of a folder, compiled when asked for.

    Parameters
    ----------
    bundles : sequence of Path
    folder : Path, optional
        Each of its subfolders that holds a server half is a bundle.
    compile_model : callable
        Makes a model of a bundle.

    Attributes
    ----------
    models : ModelRepository
        What is hosted now. At the start that is everything; a model that fails then is kept,
        not ready, so that the others go on.

    Raises
    ------
    InvalidInput
        If there is no bundle to serve, one has no server half, or two are the same version of
        one model.
    BundleIntegrity
        If a file of a bundle is not what its manifest pins.
    """

    def __init__(
        self,
        bundles: Sequence[Path],
        folder: Path | None,
        compile_model: Callable[[ServerBundle], ServedModel],
    ) -> None:
        self._bundles = tuple(bundles)
        self._folder = folder
        self._compile = compile_model
        self._changing = threading.Lock()
        if not bundles and folder is None:
            raise InvalidInput("no bundle to serve")
        if folder is not None and not folder.is_dir():
            raise InvalidInput(f"{folder}: no folder of bundles")
        halves = [open_server_half(path) for path in self._paths()]
        # Before minutes of compiling, not after.
        for name in {half.manifest.name for half in halves}:
            same = [half.manifest.version for half in halves if half.manifest.name == name]
            require_distinct(name, same)
        self.models = ModelRepository(self._compiled(half) for half in halves)

    def require_known(self, name: str) -> None:
        """Raise :class:`UnknownModel` if no model has this name, hosted or on disk."""
        if not self.models.versions(name) and all(one != name for _, one, _ in self._described()):
            raise UnknownModel(f"unknown model {brief(name)}")

    def load(self, name: str) -> list[ServedModel]:
        """Host every version of a model that is on disk now, and no other.

        A version that is hosted already, from the very same bundle, goes on as it is. If any
        fails its self-test nothing changes.

        Returns
        -------
        list of ServedModel
            Those that are hosted no more.

        Raises
        ------
        UnknownModel
            If no bundle on disk has this name.
        NotLoaded
            If a bundle is damaged, a version is there twice, or a model fails its self-test.
        """
        with self._changing:
            paths = [path for path, found, _ in self._described() if found == name]
            if not paths:
                raise UnknownModel(f"unknown model {brief(name)}")
            try:
                halves = [open_server_half(path) for path in paths]
                require_distinct(name, [half.manifest.version for half in halves])
            except VeilsegError as error:
                raise NotLoaded(str(error)) from error
            sound = [m for m in self.models if m.name == name and m.failure is None]
            hosted = {model.manifest.bundle_id: model for model in sound}
            models = [hosted.get(h.manifest.bundle_id) or self._compiled(h) for h in halves]
            for model in models:
                if model.failure is not None:
                    for new in models:
                        if new not in hosted.values():
                            new.close()
                    raise NotLoaded(f"model {name} version {model.version}: {model.failure}")
            return self.models.replace(name, models)

    def unload(self, name: str) -> list[ServedModel]:
        """Stop hosting a model. Raises :class:`UnknownModel` if it is not hosted."""
        with self._changing:
            if not self.models.versions(name):
                raise UnknownModel(f"unknown model {brief(name)}")
            return self.models.replace(name, ())

    def index(self) -> list[dict[str, Any]]:
        """What is hosted and what could be, as the protocol's repository extension lists it."""
        entries = {
            (model.name, model.version): {
                "state": "READY" if model.failure is None else "UNAVAILABLE",
                "reason": model.failure or "",
            }
            for model in self.models
        }
        for _, name, version in self._described():
            entries.setdefault((name, version), {"state": "UNAVAILABLE", "reason": "unloaded"})
        return [
            {"name": name, "version": version, **entry}
            for (name, version), entry in sorted(entries.items())
        ]

    def _compiled(self, half: ServerBundle) -> ServedModel:
        model = self._compile(half)
        logger.log(
            logging.INFO if model.failure is None else logging.ERROR,
            "model %s version %s bundle %s precision %s: %s",
            model.name,
            model.version,
            model.manifest.bundle_id,
            model.precision,
            model.failure or "ready",
        )
        return model

    def _paths(self) -> list[Path]:
        folder = [] if self._folder is None else sorted(self._folder.iterdir())
        # What is being written there begins with a dot until it is whole.
        found = (path for path in folder if not path.name.startswith("."))
        return [*self._bundles, *(path for path in found if (path / MANIFEST).is_file())]

    def _described(self) -> list[tuple[Path, str, str]]:
        """Each bundle's name and version, by its manifest alone."""
        found = []
        for path in self._paths():
            try:
                fields = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
                found.append((path, str(fields["name"]), str(fields["version"])))
            except (OSError, ValueError, KeyError, TypeError) as error:
                # Perhaps it is being copied here; what it is named nobody can tell.
                logger.warning("%s: no readable manifest (%s)", path, type(error).__name__)
        return found
