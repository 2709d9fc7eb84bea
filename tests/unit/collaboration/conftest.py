"""A collaboration on SQLite and on a real PostgreSQL, asked over HTTP."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from collaborating import FORMAT, Site
from databases import empty_database, postgresql  # noqa: F401 - fixtures

from veilseg.collaboration import projects
from veilseg.collaboration.app import Guards, create_app
from veilseg.collaboration.blobs import Blobs
from veilseg.collaboration.database import Database
from veilseg.collaboration.versions import Versions


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'collaboration.sqlite'}"
    return empty_database(request.getfixturevalue("postgresql"))


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database(url)
    yield opened
    opened.close()


@pytest.fixture
def place(database: Database, tmp_path: Path) -> SimpleNamespace:
    """A service with the projects ``brains`` (sites a, b) and ``hearts`` (site c)."""
    blobs, versions = Blobs(str(tmp_path / "blobs")), Versions(tmp_path / "models")
    tokens = {}
    with database.session() as session:
        for project, members in (("brains", "ab"), ("hearts", "c")):
            projects.create(session, project, FORMAT)
            for name in members:
                tokens[name] = projects.invite(session, project, name, days=1)
    app = create_app(database, blobs, versions, Guards(largest_shard_bytes=20_000))
    sites = {
        name: Site(app, "hearts" if name == "c" else "brains", token)
        for name, token in tokens.items()
    }
    return SimpleNamespace(
        database=database,
        blobs=blobs,
        versions=versions,
        folder=tmp_path / "blobs",
        app=app,
        **sites,
    )


@pytest.fixture
def files(place: SimpleNamespace) -> Any:
    """Contents of all shards that lie in the store."""

    def read() -> list[bytes]:
        return [one.read_bytes() for one in sorted(place.folder.rglob("*")) if one.is_file()]

    return read
