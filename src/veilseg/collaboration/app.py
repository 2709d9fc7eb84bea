"""The collaboration over HTTP: routes, statuses, headers, and nothing else."""

import base64
import binascii
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

import anyio.to_thread
from fastapi import FastAPI, Header, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from sqlalchemy import text
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from veilseg.access.audit_log import AuditLog
from veilseg.access.errors import AuditLogFailed
from veilseg.collaboration import contributions, fits, projects, withdrawals
from veilseg.collaboration.blobs import Blobs
from veilseg.collaboration.database import Database
from veilseg.collaboration.errors import (
    Conflict,
    DatabaseAway,
    StorageFull,
    TooMuch,
    Unauthorized,
    UnknownObject,
)
from veilseg.collaboration.tables import Site
from veilseg.collaboration.versions import Versions
from veilseg.contribution import LARGEST_SHARD_BYTES
from veilseg.errors import InvalidInput, OutputNotWritable, VeilsegError
from veilseg.serving.admission import Places
from veilseg.serving.body import read_bounded
from veilseg.serving.errors import (
    BodyTooLarge,
    BodyUnreadable,
    TooManyWaiting,
    UnknownEncoding,
)
from veilseg.serving.http_errors import CLIENT_GONE, LastResort, refusal

logger = logging.getLogger(__name__)

# The most particular class decides.
STATUSES: Final[dict[type[VeilsegError], int]] = {
    Unauthorized: 401,
    UnknownObject: 404,
    Conflict: 409,
    BodyTooLarge: 413,
    TooMuch: 413,
    TooManyWaiting: 429,
    AuditLogFailed: 503,
    UnknownEncoding: 415,
    BodyUnreadable: 400,
    DatabaseAway: 503,
    OutputNotWritable: 507,
    StorageFull: 507,
    InvalidInput: 400,
}
RETRY_AFTER_S: Final = 2
# RFC 9530: the digest of the body.
CONTENT_DIGEST: Final = "content-digest"
_SHA256: Final = re.compile(r"sha-256=:([A-Za-z0-9+/=]+):")
DOCUMENT_BYTES: Final = 65536
# Shards that are in memory at a time; a site without one there is always let in.
SHARDS_AT_ONCE, OF_ONE_SITE = 8, 4

Found = TypeVar("Found")
Bearer = Annotated[str | None, Header(alias="authorization")]
# As large as a database's integers are.
Number = Annotated[int, Path(ge=0, le=2**31 - 1)]
Key = Annotated[str, Path(pattern=f"^{contributions.KEY.pattern}$")]


class Announced(BaseModel):
    """What a site says of a contribution beforehand."""

    client_digest: str
    shards: int
    pairs: int


@dataclass(frozen=True)
class Guards:
    """What a site may cost, and where it is written down what each did.

    Attributes
    ----------
    largest_shard_bytes : int
    most_bytes : int or None
        That all shards of a site may take together; None: as many as there is room for.
    audit_log : AuditLog or None
        What cannot be written down does not happen.
    """

    largest_shard_bytes: int = LARGEST_SHARD_BYTES
    most_bytes: int | None = None
    audit_log: AuditLog | None = None

    def note(self, action: str, site: Site, **fields: str | int) -> None:
        """Write down what a site does. Raises AuditLogFailed."""
        if self.audit_log is not None:
            self.audit_log.append(
                action=action, project=site.project.name, site=site.name, **fields
            )


def create_app(
    database: Database, blobs: Blobs, versions: Versions, guards: Guards | None = None
) -> FastAPI:
    """The API for sites. What the provider does, it does on its own machine, not over HTTP."""
    guarded, places = guards or Guards(), Places(SHARDS_AT_ONCE, OF_ONE_SITE)
    app = FastAPI(title="Veilseg collaboration", docs_url=None, redoc_url=None, openapi_url=None)
    _handle_errors(app)

    def as_site(
        project: str, authorization: str | None, work: Callable[[Session, Site], Found]
    ) -> Found:
        with database.session() as session:
            return work(session, projects.authorised(session, project, _token(authorization)))

    @app.get("/health")
    def health() -> dict[str, str]:
        with database.session() as session:
            session.execute(text("SELECT 1"))  # a session alone asks nobody
        return {"state": "ready"}

    @app.get("/v1/projects/{project}")
    def describe(project: str, authorization: Bearer = None) -> dict[str, Any]:
        return as_site(
            project,
            authorization,
            lambda session, site: (
                projects.summary(session, site.project)
                | {
                    "versions": versions.listed(session, site.project),
                    "fit": fits.latest(session, site.project),
                }
            ),
        )

    @app.get("/v1/projects/{project}/versions/{number}/manifest")
    def manifest(project: str, number: Number, authorization: Bearer = None) -> Response:
        content = as_site(
            project,
            authorization,
            lambda session, site: versions.manifest(session, site.project, number),
        )
        return Response(content, media_type="application/json")

    @app.post("/v1/projects/{project}/token")
    def rotate(project: str, authorization: Bearer = None) -> dict[str, str]:
        def replaced(session: Session, site: Site) -> str:
            token = projects.rotated(session, site, _token(authorization) or "")
            guarded.note("token rotated", site)
            return token

        return {"token": as_site(project, authorization, replaced)}

    @app.get("/v1/projects/{project}/contributions")
    def own(project: str, authorization: Bearer = None) -> dict[str, Any]:
        return {"contributions": as_site(project, authorization, contributions.listed)}

    @app.put("/v1/projects/{project}/contributions/{key}")
    async def begin(
        request: Request, project: str, key: Key, authorization: Bearer = None
    ) -> dict[str, Any]:
        def known(_: Session, __: Site) -> None:
            """Who it is: strangers cost no memory."""

        await anyio.to_thread.run_sync(as_site, project, authorization, known)
        content = await read_bounded(request.stream(), request.headers, DOCUMENT_BYTES)
        try:
            announced = Announced.model_validate_json(bytes(content))
        except ValidationError as error:
            raise InvalidInput(_malformed([one["loc"] for one in error.errors()])) from error

        def announce(session: Session, site: Site) -> dict[str, Any]:
            about = announced.client_digest, announced.shards, announced.pairs
            begun = contributions.begin(session, site, key, *about)
            guarded.note("contribution begun", site, contribution=key, pairs=announced.pairs)
            return contributions.announced(blobs, begun)

        return await anyio.to_thread.run_sync(as_site, project, authorization, announce)

    @app.get("/v1/projects/{project}/contributions/{key}")
    def state(project: str, key: Key, authorization: Bearer = None) -> dict[str, Any]:
        return as_site(
            project,
            authorization,
            lambda session, site: contributions.document(contributions.find(session, site, key)),
        )

    @app.delete("/v1/projects/{project}/contributions/{key}")
    def withdraw(project: str, key: Key, authorization: Bearer = None) -> dict[str, int]:
        def taken_back(session: Session, site: Site) -> list[withdrawals.TakenBack]:
            found = withdrawals.withdraw(session, site, key)
            guarded.note("contribution withdrawn", site, contribution=key, shards=len(found))
            return found

        shards = as_site(project, authorization, taken_back)
        gone = withdrawals.delete_shards(database, blobs, shards)
        return {"withdrawn_shards": len(shards), "deleted_shards": gone}

    @app.post("/v1/projects/{project}/contributions/{key}/complete")
    def complete(project: str, key: Key, authorization: Bearer = None) -> dict[str, Any]:
        def whole(session: Session, site: Site) -> dict[str, Any]:
            found = contributions.document(contributions.complete(session, site, key))
            guarded.note("contribution complete", site, contribution=key, pairs=found["pairs"])
            return found

        return as_site(project, authorization, whole)

    @app.put("/v1/projects/{project}/contributions/{key}/shards/{number}")
    async def shard(
        request: Request, project: str, key: Key, number: Number, authorization: Bearer = None
    ) -> dict[str, int]:
        def known(session: Session, site: Site) -> str:
            contributions.find(session, site, key)
            return f"{project}/{site.name}"

        # Before a byte of the body is read: strangers cost no memory.
        who = await anyio.to_thread.run_sync(as_site, project, authorization, known)
        sha256 = _sha256(request.headers.get(CONTENT_DIGEST))
        with places.place(who, RETRY_AFTER_S):
            content = await read_bounded(
                request.stream(), request.headers, guarded.largest_shard_bytes
            )

            def receive(session: Session, site: Site) -> None:
                given = number, bytes(content), sha256, guarded.most_bytes
                contributions.receive(session, blobs, site, key, *given)
                guarded.note("shard received", site, contribution=key, shard=number)

            await anyio.to_thread.run_sync(as_site, project, authorization, receive)
        return {"shard": number}

    return app


def _token(authorization: str | None) -> str | None:
    kind, _, token = (authorization or "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def _sha256(header: str | None) -> str:
    found = _SHA256.fullmatch(header or "")
    try:
        if found is not None:
            return base64.b64decode(found[1], validate=True).hex()
    except binascii.Error:
        pass
    raise InvalidInput("Content-Digest: give the body's as sha-256=:BASE64:")


def _malformed(places: Sequence[Sequence[int | str]]) -> str:
    where = ", ".join(".".join(map(str, place)) or "body" for place in places)
    return f"{where}: missing or malformed"


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(VeilsegError)
    async def on_purpose(_: Request, error: VeilsegError) -> JSONResponse:
        status = next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), 500)
        headers = {
            401: {"WWW-Authenticate": "Bearer"},
            429: {"Retry-After": str(RETRY_AFTER_S)},
            503: {"Retry-After": str(RETRY_AFTER_S)},
        }.get(status)
        if status >= 500:
            logger.error("request failed: %s", error)
        if isinstance(error, AuditLogFailed):  # which file it is is for the operator
            return refusal("requests cannot be written down at the moment", status, headers)
        return refusal(str(error), status, headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        # A key or number that can be none is nobody's; a body that is none is told.
        places = {str(one["loc"][0]) for one in error.errors()}
        if "path" in places:
            return refusal("there is no such object", 404)
        return refusal(_malformed([one["loc"][1:] for one in error.errors()]), 400)

    @app.exception_handler(HTTPException)
    async def by_framework(_: Request, error: HTTPException) -> JSONResponse:
        return refusal(str(error.detail), error.status_code)

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: ClientDisconnect) -> JSONResponse:
        return refusal("the connection was closed", CLIENT_GONE)

    app.add_middleware(LastResort)
