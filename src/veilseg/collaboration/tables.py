"""Who contributed what: the tables, in SQLite or PostgreSQL alike.

Times are whole seconds since 1970: the two databases disagree about time zones.
"""

from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, String, UniqueConstraint, false
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

OPEN, CLOSED = "open", "closed"
RECEIVING, COMPLETE, WITHDRAWN = "receiving", "complete", "withdrawn"
RUNNING, DONE, FAILED = "running", "done", "failed"
LONGEST_NAME = 100
DIGEST = String(64)


class Base(DeclarativeBase):
    """All tables of the collaboration."""


class Store(Base):
    """By what the blobs are known that this database is of: one row."""

    __tablename__ = "stores"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(32))


class Project(Base):
    """What several sites train together."""

    __tablename__ = "projects"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(LONGEST_NAME), unique=True)
    state: Mapped[str] = mapped_column(String(16), default=OPEN)
    # As PairFormat.to_json gives it.
    pair_format: Mapped[dict[str, Any]] = mapped_column(JSON)
    created: Mapped[int] = mapped_column(BigInteger)


class Site(Base):
    """A member of one project."""

    __tablename__ = "sites"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), index=True)
    name: Mapped[str] = mapped_column(String(LONGEST_NAME))
    project: Mapped[Project] = relationship()


class Token(Base):
    """By which a site is known; the token itself is nowhere kept."""

    __tablename__ = "tokens"

    id: Mapped[int] = mapped_column(primary_key=True)
    site_id: Mapped[int] = mapped_column(ForeignKey("sites.id"), index=True)
    digest: Mapped[str] = mapped_column(DIGEST, unique=True)
    expires: Mapped[int] = mapped_column(BigInteger)
    # Whether it was ever shown, and whether it was given up for another.
    used: Mapped[bool] = mapped_column(default=False, server_default=false())
    replaced: Mapped[bool] = mapped_column(default=False, server_default=false())
    site: Mapped[Site] = relationship()


class Contribution(Base):
    """What a site gives at a time. Its key is chosen by the site, so that it can go on with it."""

    __tablename__ = "contributions"
    __table_args__ = (UniqueConstraint("site_id", "key"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    site_id: Mapped[int] = mapped_column(ForeignKey("sites.id"), index=True)
    key: Mapped[str] = mapped_column(String(32))
    state: Mapped[str] = mapped_column(String(16), default=RECEIVING)
    planned_shards: Mapped[int]
    planned_pairs: Mapped[int]
    created: Mapped[int] = mapped_column(BigInteger)
    site: Mapped[Site] = relationship()
    shards: Mapped[list["Shard"]] = relationship(order_by="Shard.number")


class Shard(Base):
    """A file of pairs that is there whole."""

    __tablename__ = "shards"
    __table_args__ = (UniqueConstraint("contribution_id", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    contribution_id: Mapped[int] = mapped_column(ForeignKey("contributions.id"), index=True)
    number: Mapped[int]
    sha256: Mapped[str] = mapped_column(DIGEST)
    size: Mapped[int] = mapped_column(BigInteger)
    pairs: Mapped[int]
    # Where its content lies among the blobs.
    path: Mapped[str] = mapped_column(String(200))


class Fit(Base):
    """A training of the server network, running or past."""

    __tablename__ = "fits"

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), index=True)
    state: Mapped[str] = mapped_column(String(16), default=RUNNING)
    step: Mapped[int] = mapped_column(default=0)
    steps: Mapped[int]
    seed: Mapped[int]
    loss: Mapped[float | None] = mapped_column(default=None)
    started: Mapped[int] = mapped_column(BigInteger)
    updated: Mapped[int] = mapped_column(BigInteger)
    # Contributions and SHA-256 of their shards.
    manifest: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    project: Mapped[Project] = relationship()
    losses: Mapped[list["Loss"]] = relationship(order_by="Loss.step")


class Loss(Base):
    """A point of a fit's curve."""

    __tablename__ = "losses"

    fit_id: Mapped[int] = mapped_column(ForeignKey("fits.id"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[float]


class Version(Base):
    """A server half that sites can ask for."""

    __tablename__ = "versions"
    __table_args__ = (UniqueConstraint("project_id", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), index=True)
    number: Mapped[int]
    fit_id: Mapped[int | None] = mapped_column(ForeignKey("fits.id"), default=None)
    bundle_id: Mapped[str] = mapped_column(DIGEST)
    created: Mapped[int] = mapped_column(BigInteger)
