"""Server halves that sites can ask for: the one a project began with, and one for each fit."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from veilseg.bundle import ServerManifest, open_server_half
from veilseg.collaboration.database import Database
from veilseg.collaboration.errors import Conflict, UnknownObject
from veilseg.collaboration.projects import find, now
from veilseg.collaboration.tables import Project, Version
from veilseg.digests import MANIFEST_FILE
from veilseg.errors import OutputNotWritable


class Versions:
    """Bundles with nothing but a server half, ``MODELS/PROJECT/NUMBER``.

    Parameters
    ----------
    folder : Path
        Where they lie. ``veilseg serve`` takes each of them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def folder(self, project: str, number: int) -> Path:
        """The bundle of a version."""
        return self._folder / project / str(number)

    def publish(
        self,
        database: Database,
        project: str,
        fit_id: int,
        write: Callable[[Path, int], ServerManifest],
        allowed: Callable[[Session], None],
    ) -> int:
        """Write the next version and register it, or neither.

        It is written before the transaction that registers it: exporting a network takes its time,
        and SQLite lets nobody else in.

        Parameters
        ----------
        database : Database
        project : str
        fit_id : int
        write : callable
            Given an empty folder and the number, it writes and seals a server half there.
        allowed : callable
            Asked in the transaction; raises where the version must not be published any more.

        Raises
        ------
        OutputNotWritable
            If there is no room for it.

        Returns
        -------
        int
            Its number.
        """
        while True:
            with database.session() as session:
                number = self._next(session, find(session, project))
            with (
                self._written(project, number, write) as (half, manifest),
                database.session() as session,
            ):
                # One fit after the other: both would take the same number.
                found = find(session, project)
                session.get(Project, found.id, with_for_update=True)
                if self._next(session, found) != number:
                    continue  # another fit was published meanwhile; the number is in the manifest
                allowed(session)
                self._registered(session, found, number, fit_id, half, manifest)
                return number

    def adopt(self, session: Session, project: Project, bundle: Path) -> Version:
        """Take the server half that a project begins with. Raises as :meth:`publish`."""
        half = open_server_half(bundle)
        if self.newest(session, project) is not None:
            raise Conflict(f"project {project.name}: has a version already")

        def copied(folder: Path, _: int) -> ServerManifest:
            shutil.copytree(half.folder, folder, dirs_exist_ok=True)
            return half.manifest

        with self._written(project.name, 1, copied) as (folder, manifest):
            return self._registered(session, project, 1, None, folder, manifest)

    @contextlib.contextmanager
    def _written(
        self, project: str, number: int, write: Callable[[Path, int], ServerManifest]
    ) -> Iterator[tuple[Path, ServerManifest]]:
        """A sealed server half beside where it belongs; gone afterwards unless it was moved."""
        target = self.folder(project, number)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".veilseg-", dir=target.parent) as made:
                half = Path(made) / "server"
                half.mkdir()
                yield half, write(half, number)
        except OSError as error:
            raise OutputNotWritable(f"{target}: cannot be written: {error.strerror}") from error

    def _registered(
        self,
        session: Session,
        project: Project,
        number: int,
        fit_id: int | None,
        half: Path,
        manifest: ServerManifest,
    ) -> Version:
        target = self.folder(project.name, number)
        if target.exists():  # of a run that ended before it was registered
            shutil.rmtree(target)
        target.mkdir()
        half.replace(target / "server")
        version = Version(
            project_id=project.id,
            number=number,
            fit_id=fit_id,
            bundle_id=manifest.bundle_id,
            created=now(),
        )
        session.add(version)
        session.flush()
        return version

    def _next(self, session: Session, project: Project) -> int:
        return 1 + (self.newest(session, project) or 0)

    def newest(self, session: Session, project: Project) -> int | None:
        """Number of the newest version."""
        return session.scalar(
            select(func.max(Version.number)).where(Version.project_id == project.id)
        )

    def listed(self, session: Session, project: Project) -> list[dict[str, object]]:
        """All versions, the newest first."""
        own = select(Version).where(Version.project_id == project.id)
        return [
            {"number": one.number, "bundle_id": one.bundle_id, "created": one.created}
            for one in session.scalars(own.order_by(Version.number.desc()))
        ]

    def manifest(self, session: Session, project: Project, number: int) -> bytes:
        """The server half's manifest, by which a site binds its client half to it.

        Raises
        ------
        UnknownObject
            If there is no such version.
        """
        own = select(Version).where(Version.project_id == project.id, Version.number == number)
        if session.scalar(own) is None:
            raise UnknownObject(f"version {number}: project {project.name} has none")
        return (self.folder(project.name, number) / "server" / MANIFEST_FILE).read_bytes()
