"""A database that is new, of another version, away or full."""

import contextlib
import errno
import sqlite3

import pytest
from collaborating import KEY, asked, reason, shard_of
from sqlalchemy import create_engine, inspect, text

from veilseg.collaboration.app import create_app
from veilseg.collaboration.blobs import Blobs
from veilseg.collaboration.database import Database
from veilseg.collaboration.errors import DatabaseAway, StorageFull
from veilseg.collaboration.tables import Base, Project
from veilseg.collaboration.versions import Versions
from veilseg.errors import IntegrityError, InvalidInput


def test_migrations_make_the_tables_that_the_code_has(url):
    for _ in range(2):  # a second time there is nothing to do
        Database(url).close()
    engine = create_engine(url)
    found = inspect(engine)
    for name, table in Base.metadata.tables.items():
        assert {one["name"] for one in found.get_columns(name)} == set(table.columns.keys())
    engine.dispose()


def test_schema_of_a_newer_version_is_refused(url):
    Database(url).close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(IntegrityError, match="database: its schema is none of"):
        Database(url)


@pytest.mark.parametrize("wrong", ["nonsense", "mysteries://host/name", "http://host/name"])
def test_addresses_that_are_none(wrong):
    with pytest.raises(InvalidInput, match="--database: write it as"):
        Database(wrong)


@pytest.mark.parametrize(
    "away",
    ["sqlite:////nowhere/at/all.sqlite", "postgresql+psycopg://nobody@127.0.0.1:1/none"],
)
def test_database_that_is_away_at_the_start(away):
    with pytest.raises(DatabaseAway, match="database: does not answer"):
        Database(away)


def end_connections(url):
    """All but this one, as a PostgreSQL that is shut down does."""
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    engine.dispose()


def test_database_goes_away_in_the_middle_of_an_upload(place, url, files, monkeypatch):
    """What was written before it went is no shard; the site is told to come back."""
    place.a.begin()
    write = Blobs.write

    def written_then_away(blobs, path, content):
        write(blobs, path, content)
        if url.startswith("sqlite"):  # a file has no connections that break
            raise DatabaseAway("database: the connection broke")
        end_connections(url)

    with monkeypatch.context() as patched:
        patched.setattr(Blobs, "write", written_then_away)
        answer = place.a.put(0, shard_of())
    assert reason(answer, 503).startswith("database: ")
    assert answer.headers["retry-after"] == "2"
    assert place.a.ask("GET", f"/contributions/{KEY}").json()["shards"] == {}
    assert place.a.put(0, shard_of()).status_code == 200
    assert place.a.complete().status_code == 200
    assert files() == [shard_of()]


def test_connections_that_broke_are_made_anew(place, url):
    if url.startswith("sqlite"):
        pytest.skip("SQLite has no connections that break")
    place.a.begin()
    end_connections(url)
    assert place.a.put(0, shard_of()).status_code == 200


def test_disk_of_the_database_is_full(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'full.sqlite'}")

    def grow():
        with database.session() as session:
            pages = session.execute(text("PRAGMA page_count")).scalar()
            session.execute(text(f"PRAGMA max_page_count={pages}"))
            session.add(Project(name="big", pair_format={"f": "x" * 10**6}, created=0))

    with pytest.raises(StorageFull, match="database: its disk is full"):
        grow()
    database.close()


def test_disk_of_the_store_is_full(place, files, monkeypatch):
    place.a.begin()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(type(place.blobs._files), "pipe_file", full)
        assert reason(place.a.put(0, shard_of()), 507) == "store: no room for it"
    assert place.a.ask("GET", f"/contributions/{KEY}").json()["shards"] == {}
    assert files() == []
    assert place.a.put(0, shard_of()).status_code == 200


def test_health_needs_the_database(tmp_path, monkeypatch):
    monkeypatch.setattr("veilseg.collaboration.database.LOCK_TIMEOUT_S", 0.1)
    database = Database(f"sqlite:///{tmp_path / 'one.sqlite'}")
    app = create_app(database, Blobs(str(tmp_path / "blobs")), Versions(tmp_path / "models"))
    assert asked(app, "GET", "/health").json() == {"state": "ready"}
    # Somebody else has the file to himself.
    with contextlib.closing(
        sqlite3.connect(tmp_path / "one.sqlite", isolation_level=None)
    ) as other:
        other.execute("BEGIN IMMEDIATE")
        away = asked(app, "GET", "/health")
    assert reason(away, 503) == "database: does not answer"
    database.close()


def test_disk_of_a_postgresql_is_full(place, url):
    """Its words name a file; the number of the error says what it is."""
    if url.startswith("sqlite"):
        pytest.skip("SQLite says that it is full")
    full = "DO $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$"
    with pytest.raises(StorageFull), place.database.session() as session:
        session.execute(text(full))


def test_an_unforeseen_error_says_nothing(place, monkeypatch, caplog):
    patient = "".join(["J", "o", "h", "n"])  # the log shows lines of code, this one as well

    def broken(*_):
        raise RuntimeError(patient)

    monkeypatch.setattr("veilseg.collaboration.contributions.listed", broken)
    assert reason(place.a.ask("GET", "/contributions"), 500) == "internal error"
    assert patient not in caplog.text
    assert "RuntimeError" in caplog.text
