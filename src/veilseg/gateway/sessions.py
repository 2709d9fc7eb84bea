"""Uploads that are kept for a while, each for the user who sent it."""

import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from veilseg.gateway.errors import StorageFull, UnknownObject
from veilseg.gateway.forms import Room, kept
from veilseg.gateway.multipart import Upload

SWEEP_EVERY_S: Final = 10.0


@dataclass
class Session:
    """One upload.

    Attributes
    ----------
    id : str
        Random; in it, whoever asks has been told.
    owner : str
        Whose it is, as tokens name users.
    image : Path
        A file, or a folder with a series, under a name that says nothing.
    digest : str
        SHA-256 of the content.
    size : int
        Bytes on disk.
    lifetime_s : float
        For so long it is kept after its last use.
    label : str
        What its owner calls it, beside the id; empty for nothing.
    created, used : float
        Seconds since the epoch.
    """

    id: str
    owner: str
    image: Path
    digest: str
    size: int
    lifetime_s: float
    label: str = ""
    created: float = field(default_factory=time.time)
    used: float = field(default_factory=time.time)
    in_use: int = 0

    @property
    def folder(self) -> Path:
        """Its own, in which the image lies and whatever is made of it."""
        return self.image.parent

    def document(self) -> dict[str, object]:
        """What MONAI Label's clients are told, without a path of this machine."""
        return {
            "name": self.id,
            "path": "",
            "image": self.image.name,
            "meta": {},
            "create_ts": int(self.created),
            "last_access_ts": int(self.used),
            "expiry": int(self.lifetime_s),
        }


class Sessions:
    """All uploads; a context manager, in whose block what is too old is deleted by itself.

    Parameters
    ----------
    folder : Path
        Private.
    lifetime_s : float
        Longest time that an upload is kept after its last use.
    stored_bytes : int
        Of all uploads together.
    """

    def __init__(self, folder: Path, lifetime_s: float, stored_bytes: int) -> None:
        self._folder = folder
        self._lifetime_s = lifetime_s
        self._stored_bytes = stored_bytes
        self._reserved = 0
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep_at_times, daemon=True)

    def __enter__(self) -> Self:
        self._sweeper.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._sweeper.join()

    def add(
        self, owner: str, uploads: list[Upload], lifetime_s: float = 0, label: str = ""
    ) -> Session:
        """Keep an upload.

        Parameters
        ----------
        owner : str
        uploads : list of Upload
            The files of one image.
        lifetime_s : float
            Shorter than the longest; 0 for the longest.
        label : str
            Takes the place of what the owner gave this label before.

        Raises
        ------
        StorageFull
            If all uploads together would be too large, or the disk is full.
        InvalidRequest
            If there is no file.
        """
        name, size = str(uuid.uuid4()), sum(upload.size for upload in uploads)
        lifetime_s = min(lifetime_s or self._lifetime_s, self._lifetime_s)
        with self._room_for(size):
            folder = self._folder / name
            try:
                folder.mkdir(mode=0o700)
                image, digest = kept(uploads, folder)
            except BaseException as error:
                shutil.rmtree(folder, ignore_errors=True)
                if isinstance(error, OSError):
                    raise StorageFull("the upload cannot be stored here") from error
                raise
            session = Session(name, owner, image, digest, size, lifetime_s, label)
            if label and (before := self.labelled(owner, label)):
                self._delete(lambda one: one is before, even_used=True)
            with self._lock:
                self._sessions[name] = session
        return session

    def find(self, owner: str, name: str) -> Session:
        """A session of a user. Raises UnknownObject if it is not theirs, or gone."""
        with self._lock:
            return self._found(owner, name)

    def _found(self, owner: str, name: str) -> Session:
        session = self._sessions.get(name)
        if session is None or session.owner != owner:
            raise UnknownObject("session: no such session, or it was deleted")
        return session

    def labelled(self, owner: str, label: str) -> Session | None:
        """What a user gave a label, if it is still there."""
        with self._lock:
            found = [
                one for one in self._sessions.values() if (one.owner, one.label) == (owner, label)
            ]
        return found[0] if found else None

    @contextmanager
    def used(self, owner: str, name: str) -> Iterator[Session]:
        """A session that is kept while it is used. Raises as :meth:`find`."""
        with self._lock:
            session = self._found(owner, name)
            session.in_use += 1
        try:
            yield session
        finally:
            with self._lock:
                session.in_use -= 1
                session.used = time.time()
                last = not session.in_use and self._sessions.get(name) is not session
            if last:  # it was deleted meanwhile
                shutil.rmtree(self._folder / name, ignore_errors=True)

    def grow(self, session: Session, size: int) -> None:
        """Count what was made of an upload, and lies beside it.

        Raises
        ------
        StorageFull
            If all uploads together are too large then.
        """
        with self._room_for(size), self._lock:
            session.size += size

    def remove(self, owner: str, name: str) -> Session:
        """Delete a session; what uses it goes on to its end. Raises as :meth:`find`."""
        session = self.find(owner, name)
        self._delete(lambda one: one is session, even_used=True)
        return session

    def sweep(self) -> None:
        """Delete what is too old and not used."""
        now = time.time()
        self._delete(lambda one: now - one.used > one.lifetime_s)

    def _delete(self, which: Callable[[Session], bool], even_used: bool = False) -> None:
        with self._lock:
            gone = [
                one
                for one in self._sessions.values()
                if which(one) and (even_used or not one.in_use)
            ]
            for session in gone:
                del self._sessions[session.id]
            # The files of those that are used are taken by the last who uses them.
            unused = [session for session in gone if not session.in_use]
        for session in unused:
            shutil.rmtree(self._folder / session.id, ignore_errors=True)

    def _sweep_at_times(self) -> None:
        while not self._ended.wait(min(SWEEP_EVERY_S, self._lifetime_s)):
            self.sweep()

    @contextmanager
    def arriving(self) -> Iterator[Room]:
        """Where an upload lies for the length of a block, unless it is kept, and what it takes.

        Raises
        ------
        StorageFull
            As soon as all uploads together are too large, or the disk is full.
        """
        with self._counted() as more:
            try:
                folder = tempfile.TemporaryDirectory(prefix="incoming-", dir=self._folder)
            except OSError as error:
                raise StorageFull("the upload cannot be stored here") from error
            with folder as name:
                yield Room(Path(name), more)

    @contextmanager
    def _counted(self) -> Iterator[Callable[[int], None]]:
        """Count what lies on disk for the length of a block, as an upload before it is kept.

        Yields
        ------
        callable
            Is told of so many bytes more; raises StorageFull if all together are too large then.
        """
        held = 0

        def more(size: int) -> None:
            nonlocal held
            with self._lock:
                taken = sum(one.size for one in self._sessions.values()) + self._reserved
                if taken + size > self._stored_bytes:
                    raise StorageFull("too many uploads are kept at the moment: try again later")
                self._reserved += size
                held += size

        try:
            yield more
        finally:
            with self._lock:
                self._reserved -= held

    @contextmanager
    def _room_for(self, size: int) -> Iterator[None]:
        with self._counted() as more:
            more(size)
            yield
