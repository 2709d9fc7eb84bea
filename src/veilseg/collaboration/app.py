"""The collaboration over HTTP: routes, statuses, headers, and nothing else."""

import base64
import binascii
import logging
import re
from collections.abc import Callable, Sequence
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

from veilseg.collaboration import contributions, fits, projects
from veilseg.collaboration.blobs import Blobs
from veilseg.collaboration.database import Database
from veilseg.collaboration.errors import (
    Conflict,
    DatabaseAway,
    StorageFull,
    Unauthorized,
    UnknownObject,
)
from veilseg.collaboration.tables import Site
from veilseg.collaboration.versions import Versions
from veilseg.contribution import LARGEST_SHARD_BYTES
from veilseg.errors import InvalidInput, OutputNotWritable, VeilsegError
from veilseg.serving.body import read_bounded
from veilseg.serving.errors import BodyTooLarge, BodyUnreadable, UnknownEncoding
from veilseg.serving.http_errors import CLIENT_GONE, LastResort, refusal

logger = logging.getLogger(__name__)

# The most particular class decides.
STATUSES: Final[dict[type[VeilsegError], int]] = {
    Unauthorized: 401,
    UnknownObject: 404,
    Conflict: 409,
    BodyTooLarge: 413,
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


def create_app(
    database: Database,
    blobs: Blobs,
    versions: Versions,
    largest_shard_bytes: int = LARGEST_SHARD_BYTES,
) -> FastAPI:
    """The API for sites. What the provider does, it does on its own machine, not over HTTP."""
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
        token = as_site(
            project,
            authorization,
            lambda session, site: projects.rotated(session, site, _token(authorization) or ""),
        )
        return {"token": token}

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
            return contributions.announced(blobs, contributions.begin(session, site, key, *about))

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
        shards = as_site(
            project,
            authorization,
            lambda session, site: contributions.withdraw(session, site, key),
        )
        gone = contributions.delete_shards(database, blobs, shards)
        return {"withdrawn_shards": len(shards), "deleted_shards": gone}

    @app.post("/v1/projects/{project}/contributions/{key}/complete")
    def complete(project: str, key: Key, authorization: Bearer = None) -> dict[str, Any]:
        return as_site(
            project,
            authorization,
            lambda session, site: contributions.document(
                contributions.complete(session, site, key)
            ),
        )

    @app.put("/v1/projects/{project}/contributions/{key}/shards/{number}")
    async def shard(
        request: Request, project: str, key: Key, number: Number, authorization: Bearer = None
    ) -> dict[str, int]:
        def known(session: Session, site: Site) -> None:
            contributions.find(session, site, key)

        # Before a byte of the body is read: strangers cost no memory.
        await anyio.to_thread.run_sync(as_site, project, authorization, known)
        sha256 = _sha256(request.headers.get(CONTENT_DIGEST))
        content = await read_bounded(request.stream(), request.headers, largest_shard_bytes)

        def receive(session: Session, site: Site) -> None:
            contributions.receive(session, blobs, site, key, number, bytes(content), sha256)

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
            503: {"Retry-After": str(RETRY_AFTER_S)},
        }.get(status)
        if status >= 500:
            logger.error("request failed: %s", error)
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
