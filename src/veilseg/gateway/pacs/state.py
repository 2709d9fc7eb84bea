"""What was seen, segmented and stored: a row per series and model, in SQLite. Never pixels.

``arriving`` → ``waiting`` → ``storing`` → ``done``, or ``failed`` with a reason, for good. Every
step is written down when it is taken: whoever is killed goes on from the last.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from filelock import FileLock, Timeout

from veilseg.errors import InvalidInput, OutputNotWritable
from veilseg.vault.permissions import OWNER_ONLY_FOLDER, require_private, write_private

BUSY_TIMEOUT_S: Final = 30.0
# Begun so often and never brought to an end, the process ended with it.
MOST_ATTEMPTS: Final = 5
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS series (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    study TEXT NOT NULL, series TEXT NOT NULL, model TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'arriving', images INTEGER NOT NULL, changed REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, tried REAL NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    UNIQUE (series, model)
);
CREATE TABLE IF NOT EXISTS late (number INTEGER PRIMARY KEY, images INTEGER NOT NULL);
"""
COLUMNS: Final = "number, study, series, model, state, images, attempts, reason"


@dataclass(frozen=True)
class Row:
    """One series, and what became of it.

    Attributes
    ----------
    number : int
        By which people and logs name it.
    study, series : str
        UIDs.
    model : str
    state : str
    images : int
        How many there were when it was last looked at.
    attempts : int
        To segment it, so far.
    reason : str
        Why it failed.
    """

    number: int
    study: str
    series: str
    model: str
    state: str
    images: int
    attempts: int
    reason: str


class State:
    """A private folder with the database, and what waits to be stored.

    Parameters
    ----------
    folder : Path
        Made if it is missing; its parent has to be there.

    Raises
    ------
    OutputNotWritable
        If it cannot be made or written.
    InvalidVault
        If it is open to others: it says who was here.
    InvalidInput
        If the database is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        database = folder / "pacs.sqlite"
        try:
            folder.mkdir(mode=OWNER_ONLY_FOLDER, exist_ok=True)
            require_private(folder)
            if not database.exists():
                write_private(database, b"")
            self.outbox.mkdir(mode=OWNER_ONLY_FOLDER, exist_ok=True)
            self.inbox.mkdir(mode=OWNER_ONLY_FOLDER, exist_ok=True)
        except OSError as error:
            raise OutputNotWritable(f"{folder}: cannot be written: {error.strerror}") from error
        try:
            self._connection = sqlite3.connect(
                database, timeout=BUSY_TIMEOUT_S, isolation_level=None
            )
            self._connection.executescript(SCHEMA)
        except sqlite3.DatabaseError as error:
            raise InvalidInput(f"{database}: cannot be used: {error}") from error

    @property
    def outbox(self) -> Path:
        """Segmentations that wait to be stored, by the number of their row."""
        return self.folder / "outbox"

    @property
    def inbox(self) -> Path:
        """Series that were received, a folder each."""
        return self.folder / "inbox"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def saw(
        self, study: str, series: str, model: str, images: int, forgotten: bool = False
    ) -> str | None:
        """Note that a series has so many images now.

        Once it is taken for complete, that changes nothing of what is done with it.

        Parameters
        ----------
        study, series, model : str
        images : int
        forgotten : bool
            Whether images are deleted once all is done with them: fewer are then further ones.

        Returns
        -------
        str or None
            What somebody has to be told, once: it was segmented without some of its images.
        """
        self._run(
            "INSERT INTO series (study, series, model, images, changed) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET images = excluded.images, changed = excluded.changed "
            "WHERE state = 'arriving' AND images <> excluded.images",
            *(study, series, model, images, time.time()),
        )
        own = "SELECT number, state, images FROM series WHERE series = ? AND model = ?"
        number, state, taken = self._run(own, series, model).fetchone()
        further = forgotten and state in ("done", "failed") and images < taken
        more = images if further else images - taken
        if state == "arriving" or more <= 0:
            return None
        told = self._run(
            "INSERT INTO late (number, images) VALUES (?, ?) "
            "ON CONFLICT DO UPDATE SET images = excluded.images WHERE images < excluded.images",
            *(number, more),
        )
        if not told.rowcount:
            return None
        reason = f"{more} images came after it was taken for complete with {taken}"
        self._run("UPDATE series SET reason = ? WHERE number = ?", reason, number)
        return f"series {number}: {reason}: its segmentation is not of them"

    def settle(self, settle_s: float) -> int:
        """Take series to which no image was added for so long for complete; how many there are."""
        return self._run(
            "UPDATE series SET state = 'waiting' WHERE state = 'arriving' AND changed <= ?",
            time.time() - settle_s,
        ).rowcount

    def due(self) -> Row | None:
        """What to do next; None if nothing can be done now."""
        found = self._run(
            f"SELECT {COLUMNS} FROM series WHERE state IN ('waiting', 'storing') "
            "ORDER BY tried, number LIMIT 1"
        ).fetchone()
        return None if found is None else Row(*found)

    def unfinished(self) -> int:
        """Series that are neither done nor failed."""
        query = "SELECT count(*) FROM series WHERE state NOT IN ('done', 'failed')"
        return int(self._run(query).fetchone()[0])

    def is_finished(self, series: str) -> bool:
        """Whether no model has anything left to do with a series."""
        query = "SELECT count(*) FROM series WHERE series = ? AND state NOT IN ('done', 'failed')"
        return not self._run(query, series).fetchone()[0]

    def rows(self) -> list[Row]:
        """All series, the oldest first."""
        found = self._run(f"SELECT {COLUMNS} FROM series ORDER BY number").fetchall()
        return [Row(*one) for one in found]

    def begin(self, row: Row) -> None:
        """Count an attempt before it is made: one that ends the process must not come for ever."""
        self._run("UPDATE series SET attempts = attempts + 1 WHERE number = ?", row.number)

    def segmented(self, row: Row) -> None:
        """Its segmentation lies in the outbox, whole."""
        self._run("UPDATE series SET state = 'storing' WHERE number = ?", row.number)

    def done(self, row: Row) -> None:
        """It is stored."""
        self._run("UPDATE series SET state = 'done' WHERE number = ?", row.number)

    def failed(self, row: Row, reason: str) -> None:
        """It is not tried again."""
        self._run(
            "UPDATE series SET state = 'failed', reason = ? WHERE number = ?", reason, row.number
        )

    def postponed(self, row: Row, *, counted: bool = False) -> None:
        """Try it again, after the others that are due.

        Parameters
        ----------
        row : Row
        counted : bool
            Whether the attempt counts: it does not where somebody else was at fault.
        """
        self._run(
            "UPDATE series SET attempts = attempts * ?, tried = ? WHERE number = ?",
            *(int(counted), time.time(), row.number),
        )

    def _run(self, statement: str, *values: Any) -> sqlite3.Cursor:
        try:
            return self._connection.execute(statement, values)
        except sqlite3.DatabaseError as error:
            raise InvalidInput(f"{self.folder}: the database cannot be used: {error}") from error


def synced(path: Path) -> None:
    """Have a file on the disk before something is written down that relies on it."""
    for place in (path, path.parent):
        handle = os.open(place, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def locked(state: State) -> Iterator[None]:
    """Work with a state alone: two at once would store everything twice.

    Raises
    ------
    InvalidInput
        If somebody else does.
    """
    try:
        lock = FileLock(state.folder / ".lock", timeout=0).acquire()
    except Timeout as error:
        raise InvalidInput(f"{state.folder}: somebody else works with it") from error
    with lock:
        yield
