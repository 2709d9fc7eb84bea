"""The database: where it is, its migrations, and sessions that say when it is away."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from veilseg.collaboration.errors import DatabaseAway, StorageFull
from veilseg.errors import IntegrityError, InvalidInput, MissingDependency

MIGRATIONS = Path(__file__).parent / "migrations"
# A writer waits this long for another before it is told to come back.
LOCK_TIMEOUT_S = 20
CONNECT_TIMEOUT_S = 5
DISK_FULL = "53100"


class Database:
    """Sessions on a database of the newest schema.

    Parameters
    ----------
    url : str
        ``sqlite:///FILE`` or ``postgresql+psycopg://USER@HOST/NAME``.

    Raises
    ------
    InvalidInput
        If the URL is none, or names a kind of database that is not known.
    MissingDependency
        If the driver is not installed.
    DatabaseAway
        If it does not answer.
    IntegrityError
        If a newer Veilseg has changed its schema.
    """

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        try:
            self._migrate()
        except BaseException:
            self._engine.dispose()
            raise

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """One transaction: committed as a whole at the end, or not at all.

        Raises
        ------
        DatabaseAway
            If the database does not answer or stays locked.
        StorageFull
            If its disk is full.
        """
        with _told(), Session(self._engine) as session, session.begin():
            yield session

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _migrate(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        known = {one.revision for one in ScriptDirectory.from_config(config).walk_revisions()}
        with _told(), self._engine.begin() as connection:
            if self._engine.dialect.name == "postgresql":
                # Two services that start at once must not both migrate.
                connection.execute(text("SELECT pg_advisory_xact_lock(7315)"))
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise IntegrityError(
                    f"database: its schema is none of the {len(known)} this version knows "
                    "(a newer Veilseg may have written it)"
                ) from error


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        waiting = (
            {"timeout": LOCK_TIMEOUT_S}
            if parsed.get_backend_name() == "sqlite"
            else {"connect_timeout": CONNECT_TIMEOUT_S}
        )
        engine = create_engine(parsed, connect_args=waiting, pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError) as error:
        raise InvalidInput(
            "--database: write it as sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
        ) from error
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"{error.name}: not installed: pip install 'veilseg[collaboration]'"
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _strict_sqlite)
        event.listen(engine, "begin", _writer)
    return engine


def _strict_sqlite(connection: object, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # type: ignore[attr-defined]  # transactions by _writer
    cursor = connection.cursor()  # type: ignore[attr-defined]  # SQLite's own connection
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.close()


def _writer(connection: object) -> None:
    # A transaction that reads first and writes later would fail at once where another writes.
    connection.exec_driver_sql("BEGIN IMMEDIATE")  # type: ignore[attr-defined]


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Errors of the database's own as ours, without its address or its statement."""
    try:
        yield
    except OperationalError as error:
        # PostgreSQL says so by a number: its words are of whatever could not be extended.
        if "full" in str(error.orig) or getattr(error.orig, "sqlstate", None) == DISK_FULL:
            raise StorageFull("database: its disk is full") from error
        raise DatabaseAway("database: does not answer") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise DatabaseAway("database: the connection broke") from error
        raise
