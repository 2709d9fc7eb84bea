"""The data plane over HTTP: routes, statuses, headers, and nothing else."""

import contextlib
import logging
import traceback
from collections.abc import AsyncIterator
from typing import Any, Final

import anyio
import anyio.to_thread
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from veilseg.errors import VeilsegError
from veilseg.serving.body import BoundedBody, compressed
from veilseg.serving.dataplane import DataPlane
from veilseg.serving.errors import (
    BodyTooLarge,
    BodyUnreadable,
    InvalidRequest,
    ModelNotReady,
    TooManyWaiting,
    UnknownEncoding,
    UnknownModel,
)
from veilseg.serving.models import ModelRepository
from veilseg.wire import WireError, documents, paths
from veilseg.wire.infer import HEADER_LENGTH

logger = logging.getLogger(__name__)

# The statuses of everything raised on purpose; any other error is our fault and a 500.
STATUSES: Final[dict[type[VeilsegError], int]] = {
    WireError: 400,
    InvalidRequest: 400,
    BodyUnreadable: 400,
    UnknownModel: 404,
    BodyTooLarge: 413,
    UnknownEncoding: 415,
    ModelNotReady: 503,
    TooManyWaiting: 503,
}

# Requests of one model that may be read, wait or run at a time: what bounds the memory.
MAX_INSIDE: Final = 16
# A tile of some megabytes takes seconds on a slow line; who takes longer holds up a place.
BODY_TIMEOUT_S: Final = 60.0
RETRY_AFTER_S: Final = 1


def create_app(
    models: ModelRepository,
    *,
    max_body_bytes: int | None = None,
    max_inside: int = MAX_INSIDE,
    body_timeout_s: float = BODY_TIMEOUT_S,
) -> FastAPI:
    """The Open Inference Protocol v2 over HTTP for these models.

    Parameters
    ----------
    models : ModelRepository
    max_body_bytes : int, optional
        For a body as sent and as decompressed; larger ones meet 413. By default what the
        largest sound request to any of the models takes.
    max_inside : int
        Requests per model that are read, wait or run at a time; more meet 503.
    body_timeout_s : float
        Within which a body has to arrive; slower ones meet 408.
    """
    plane = DataPlane(models)
    limit = plane.largest_request_bytes if max_body_bytes is None else max_body_bytes
    queues = {model.manifest.name: _Queue(max_inside) for model in models}
    # No pages: FastAPI's documentation loads scripts from elsewhere.
    app = FastAPI(title="Veilseg", docs_url=None, redoc_url=None, openapi_url=None)
    _handle_errors(app)

    @app.get(paths.SERVER)
    async def server_metadata() -> JSONResponse:
        return JSONResponse(plane.server_metadata())

    @app.get(paths.LIVE)
    async def server_live() -> JSONResponse:
        return JSONResponse({"live": True})

    @app.get(paths.READY)
    async def server_ready() -> JSONResponse:
        ready = plane.server_ready()
        return JSONResponse({"ready": ready}, 200 if ready else 503)

    @app.get("/v2/models/{name}")
    @app.get("/v2/models/{name}/versions/{version}")
    async def model_metadata(name: str, version: str | None = None) -> JSONResponse:
        return JSONResponse(plane.model_metadata(name, version))

    @app.get("/v2/models/{name}/ready")
    @app.get("/v2/models/{name}/versions/{version}/ready")
    async def model_ready(name: str, version: str | None = None) -> JSONResponse:
        plane.require_ready(name, version)
        return JSONResponse({"name": name, "ready": True})

    @app.post("/v2/models/{name}/infer")
    @app.post("/v2/models/{name}/versions/{version}/infer")
    async def infer(request: Request, name: str, version: str | None = None) -> Response:
        plane.require_ready(name, version)
        async with queues[name].place():
            with anyio.fail_after(body_timeout_s):
                body = await _read(request, limit)
            message = await anyio.to_thread.run_sync(
                plane.infer,
                name,
                version,
                body,
                request.headers.get(HEADER_LENGTH),
                limiter=queues[name].turn,
            )
        content, encoding = await anyio.to_thread.run_sync(
            compressed, message.body, request.headers.get("accept-encoding")
        )
        headers = message.headers | ({"Content-Encoding": encoding} if encoding else {})
        return Response(content, headers=headers)

    return app


class _Queue:
    """Places for the requests of one model, of which one at a time computes.

    The network uses all cores for one tile, so that two at once would only take turns; and
    waiting here keeps the threads free, so that other models and health checks go on.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self.turn = anyio.CapacityLimiter(1)

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        if self._free == 0:
            raise TooManyWaiting("too many requests are waiting for this model")
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


async def _read(request: Request, limit: int) -> bytearray:
    declared = request.headers.get("content-length", "")
    declared_bytes = int(declared) if declared.isdecimal() else None
    body = BoundedBody(limit, request.headers.get("content-encoding"), declared_bytes)
    async for chunk in request.stream():
        body.feed(chunk)
    return body.finish()


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(VeilsegError)
    async def on_purpose(_: Request, error: VeilsegError) -> JSONResponse:
        status = STATUSES.get(type(error), 500)
        if status == 500:
            _log(error)
        headers = {"Retry-After": str(RETRY_AFTER_S)} if type(error) is TooManyWaiting else None
        return _refusal(str(error) if status != 500 else "the model failed", status, headers)

    @app.exception_handler(TimeoutError)
    async def too_slow(_: Request, __: TimeoutError) -> JSONResponse:
        return _refusal("the body did not arrive in time", 408)

    @app.exception_handler(HTTPException)
    async def by_framework(_: Request, error: HTTPException) -> JSONResponse:
        return _refusal(str(error.detail), error.status_code, error.headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: ClientDisconnect) -> JSONResponse:
        return _refusal("the connection closed before the body was whole", 400)

    app.add_middleware(_LastResort)


class _LastResort:
    """Answers what nobody foresaw without quoting it, to the client or to the log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        # Answers are sent whole and last, so that whatever fails, fails before they start.
        except Exception as error:  # noqa: BLE001 - the boundary of the process
            _log(error)
            await _refusal("internal error", 500)(scope, receive, send)


def _log(error: Exception) -> None:
    # Where it happened and of what kind. The message is left out: array libraries quote data.
    where = "".join(traceback.format_tb(error.__traceback__)[-3:])
    logger.error("request failed: %s\n%s", type(error).__name__, where)


def _refusal(message: str, status: int, headers: Any = None) -> JSONResponse:
    return JSONResponse(documents.error(message), status, headers)
