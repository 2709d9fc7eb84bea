"""What was sent: digests of proxies by subject, in SQLite. Never pixels, never names."""

import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from veilseg.errors import InvalidVault, RepeatRefused, VaultIntegrity, VeilsegError

BUSY_TIMEOUT_S = 30.0
# What SQLite says of files that are sound, but cannot be used as they lie there.
UNUSABLE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
    }
)

SCHEMA = """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS reference_files (
    file TEXT PRIMARY KEY, sha256 TEXT NOT NULL, patient TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS proxies (
    subject TEXT NOT NULL, digest TEXT NOT NULL, sent INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (subject, digest)
);
CREATE TABLE IF NOT EXISTS sendings (
    subject TEXT NOT NULL, digest TEXT NOT NULL, sent_at INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS sendings_by_subject ON sendings (subject);
"""
DIGESTS = "SELECT digest FROM proxies WHERE subject = ?"


@dataclass(frozen=True)
class Sent:
    """One proxy that was sent.

    Attributes
    ----------
    digest : str
        SHA-256, as :meth:`~veilseg.payload.Proxy.digest`.
    times : int
        How often.
    at : tuple of int
        When, in seconds since the epoch, the earliest first; vaults of earlier versions did not
        keep that, so there may be fewer than ``times``.
    """

    digest: str
    times: int
    at: tuple[int, ...]


class Ledger:
    """The vault's database.

    Parameters
    ----------
    path : Path or None
        None keeps it in memory, for runs in which nothing leaves.

    Raises
    ------
    VaultIntegrity
        If the file is no database.
    InvalidVault
        If it cannot be used: locked for long, not writable, disk full. So from every method.
    """

    def __init__(self, path: Path | None) -> None:
        self._name = str(path) if path else "the vault in memory"
        try:
            self._connection = sqlite3.connect(
                path or ":memory:", timeout=BUSY_TIMEOUT_S, isolation_level=None
            )
        except sqlite3.DatabaseError as error:
            raise self._explained(error) from error
        try:
            self._connection.executescript(SCHEMA)
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise self._explained(error) from error

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def settings(self) -> dict[str, str]:
        """Name and value of each setting."""
        rows = self._query("SELECT name, value FROM settings")
        return {row[0]: row[1] for row in rows}

    def set(self, name: str, value: str) -> None:
        """Store a setting."""
        self._query("INSERT OR REPLACE INTO settings VALUES (?, ?)", name, value)

    def add_reference(self, file: str, sha256: str, patient: str) -> None:
        """Register a reference file of the vault with its hash and patient pseudonym."""
        self._query("INSERT INTO reference_files VALUES (?, ?, ?)", file, sha256, patient)

    def reference_files(self) -> list[tuple[str, str, str]]:
        """(file, sha256, patient pseudonym) in a fixed order."""
        rows = self._query("SELECT file, sha256, patient FROM reference_files ORDER BY file")
        return [(file, sha256, patient) for file, sha256, patient in rows]

    def record(self, subject: str, *digests: str, allow_repeat: bool) -> None:
        """Enter proxies before they are sent: a crash after sending must not hide one.

        Parameters
        ----------
        subject : str
            Pseudonym.
        *digests : str
            Of all proxies of one call: several are a choice that its caller has made. The same
            again are a retry and teach the server nothing.
        allow_repeat : bool

        Raises
        ------
        RepeatRefused
            If the subject has other proxies and repeats are not allowed. Nothing is entered then.
        """
        # IMMEDIATE takes the write lock first: two processes cannot both find the ledger empty.
        self._query("BEGIN IMMEDIATE")
        try:
            known = {row[0] for row in self._query(DIGESTS, subject)}
            if known and not known.issuperset(digests) and not allow_repeat:
                raise RepeatRefused(
                    "a different proxy of this subject was sent before; another lets the server "
                    "average or subtract them (--allow-repeat sends it all the same)"
                )
            for digest in digests:
                self._query(
                    "INSERT INTO proxies (subject, digest) VALUES (?, ?) "
                    "ON CONFLICT DO UPDATE SET sent = sent + 1",
                    subject,
                    digest,
                )
                self._query(
                    "INSERT INTO sendings VALUES (?, ?, ?)", subject, digest, int(time.time())
                )
            self._query("COMMIT")
        except BaseException:
            # A full disk or the like has rolled back already.
            if self._connection.in_transaction:
                self._query("ROLLBACK")
            raise

    def different_proxies(self, subject: str) -> int:
        """How many different proxies of a subject were recorded."""
        return len(self._query(DIGESTS, subject))

    def sent(self, subject: str) -> list[Sent]:
        """What was sent of a subject, in the order in which it was sent first."""
        times: dict[str, list[int]] = {}
        rows = "SELECT digest, sent_at FROM sendings WHERE subject = ? ORDER BY sent_at"
        for digest, at in self._query(rows, subject):
            times.setdefault(digest, []).append(int(at))
        rows = "SELECT digest, sent FROM proxies WHERE subject = ? ORDER BY rowid"
        return [
            Sent(digest, int(count), tuple(times.get(digest, ())))
            for digest, count in self._query(rows, subject)
        ]

    def forget(self, subject: str) -> int:
        """Remove a subject's entries; returns how many different proxies there were."""
        count = self.different_proxies(subject)
        self._query("DELETE FROM sendings WHERE subject = ?", subject)
        self._query("DELETE FROM proxies WHERE subject = ?", subject)
        return count

    def _query(self, statement: str, *values: str | int) -> list[tuple[str, ...]]:
        try:
            return list(self._connection.execute(statement, values))
        except sqlite3.DatabaseError as error:
            raise self._explained(error) from error

    def _explained(self, error: sqlite3.DatabaseError) -> VeilsegError:
        # The low byte is the kind, the rest its variety.
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in UNUSABLE:
            return InvalidVault(f"{self._name}: cannot be used: {error}")
        return VaultIntegrity(f"{self._name}: damaged: {error}")
