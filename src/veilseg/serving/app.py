"""The data plane over HTTP: routes, headers, and nothing else."""

import asyncio
import json
import time
from typing import Any

import anyio
import anyio.to_thread
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from veilseg.access.token_file import TokenFile
from veilseg.serving.admission import RateLimit
from veilseg.serving.batching import Job
from veilseg.serving.body import compressed, read_bounded
from veilseg.serving.dataplane import DataPlane
from veilseg.serving.errors import DeadlinePassed, InvalidRequest
from veilseg.serving.heads import BoundedHead
from veilseg.serving.http_errors import LastResort, handle_errors
from veilseg.serving.lingering import Lingering
from veilseg.serving.metrics import CONTENT_TYPE
from veilseg.serving.observing import Observed
from veilseg.serving.settings import Settings
from veilseg.serving.visitors import ADMIN, INFER, METRICS, Visitor, visitor_of
from veilseg.wire import paths
from veilseg.wire.infer import HEADER_LENGTH
from veilseg.wire.tensors import FloatArray

# The parameters of a load or unload take some bytes, if there are any.
MAX_COMMAND_BYTES = 65536


def create_app(
    plane: DataPlane, settings: Settings | None = None, tokens: TokenFile | None = None
) -> FastAPI:
    """The Open Inference Protocol v2 over HTTP, with its repository extension and metrics.

    Parameters
    ----------
    plane : DataPlane
    settings : Settings, optional
        Limits; by default the defaults.
    tokens : TokenFile, optional
        Who may do what. Without one, everybody may use the models and nobody change them.
    """
    settings = settings or Settings()
    rate = RateLimit(settings.rate_per_minute, settings.rate_burst)
    # No pages: FastAPI's documentation loads scripts from elsewhere.
    app = FastAPI(title="Veilseg", docs_url=None, redoc_url=None, openapi_url=None)
    handle_errors(app)
    app.add_middleware(LastResort)
    app.add_middleware(
        Lingering, limit=lambda: plane.largest_request_bytes, timeout_s=settings.body_timeout_s
    )
    app.add_middleware(BoundedHead, max_bytes=settings.max_head_bytes)
    app.add_middleware(Observed, metrics=plane.metrics)

    def visitor(request: Request, *roles: str) -> Visitor:
        found = visitor_of(request.headers.get("authorization"), tokens)
        request.state.site = found.site
        found.require(*roles)
        return found

    @app.get(paths.LIVE)
    async def server_live() -> JSONResponse:
        return JSONResponse({"live": True})

    @app.get(paths.READY)
    async def server_ready() -> JSONResponse:
        ready = plane.server_ready()
        return JSONResponse({"ready": ready}, 200 if ready else 503)

    @app.get(paths.SERVER)
    async def server_metadata(request: Request) -> JSONResponse:
        visitor(request, INFER, ADMIN)
        return JSONResponse(plane.server_metadata())

    @app.get("/v2/models/{name}")
    @app.get("/v2/models/{name}/versions/{version}")
    async def model_metadata(
        request: Request, name: str, version: str | None = None
    ) -> JSONResponse:
        visitor(request, INFER, ADMIN)
        return JSONResponse(plane.model_metadata(name, version))

    @app.get("/v2/models/{name}/ready")
    @app.get("/v2/models/{name}/versions/{version}/ready")
    async def model_ready(request: Request, name: str, version: str | None = None) -> JSONResponse:
        visitor(request, INFER, ADMIN)
        plane.require_ready(name, version)
        return JSONResponse({"name": name, "ready": True})

    @app.post("/v2/models/{name}/infer")
    @app.post("/v2/models/{name}/versions/{version}/infer")
    async def infer(request: Request, name: str, version: str | None = None) -> Response:
        who = visitor(request, INFER)
        rate.take(who.site)
        with plane.place(name, version, who.site) as lane:
            with anyio.fail_after(settings.body_timeout_s):
                body = await read_bounded(
                    request.stream(), request.headers, plane.largest_request_bytes
                )
            inference = await anyio.to_thread.run_sync(
                plane.prepare, lane, body, request.headers.get(HEADER_LENGTH), who
            )
            noted = request.state
            noted.model, noted.version = inference.model.name, inference.model.version
            noted.tiles, noted.bytes = len(inference.tiles), len(body)
            begun = time.perf_counter()
            answers = await _computed(
                request, plane.begin(lane, inference, who.site), inference.deadline_s
            )
            noted.compute_seconds = round(time.perf_counter() - begun, 4)
            message = await anyio.to_thread.run_sync(plane.finish, inference, answers)
            content, encoding = await anyio.to_thread.run_sync(
                compressed, message.body, request.headers.get("accept-encoding")
            )
        headers = message.headers | ({"Content-Encoding": encoding} if encoding else {})
        return Response(content, headers=headers)

    @app.post(paths.INDEX)
    async def index(request: Request) -> JSONResponse:
        visitor(request, ADMIN)
        command = await _command(request)
        listed = await anyio.to_thread.run_sync(plane.index)
        wanted = [one for one in listed if not command.get("ready") or one["state"] == "READY"]
        return JSONResponse(wanted)

    @app.post("/v2/repository/models/{name}/load")
    async def load(request: Request, name: str) -> JSONResponse:
        who = visitor(request, ADMIN)
        if (await _command(request)).get("parameters"):
            # Triton would let a client bring configuration and files of its own.
            raise InvalidRequest("parameters: models are loaded as they are on the server's disk")
        await anyio.to_thread.run_sync(plane.load, name, who)
        return JSONResponse({})

    @app.post("/v2/repository/models/{name}/unload")
    async def unload(request: Request, name: str) -> JSONResponse:
        who = visitor(request, ADMIN)
        await _command(request)
        await anyio.to_thread.run_sync(plane.unload, name, who)
        return JSONResponse({})

    @app.get(paths.METRICS)
    async def metrics(request: Request) -> Response:
        visitor(request, METRICS)
        return Response(plane.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    return app


async def _command(request: Request) -> dict[str, Any]:
    """The JSON object of a request to the repository; empty if there is none."""
    body = await read_bounded(request.stream(), request.headers, MAX_COMMAND_BYTES)
    try:
        command = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("the body is no JSON") from error
    if not isinstance(command, dict):
        raise InvalidRequest("the body is no JSON object")
    return command


async def _computed(request: Request, job: Job, deadline_s: float) -> FloatArray:
    """The answers, unless the client leaves or the time is over: then nothing more is computed."""
    answers = asyncio.wrap_future(job.answers)
    gone = asyncio.ensure_future(_disconnected(request))
    either: set[asyncio.Future[Any]] = {answers, gone}
    try:
        await asyncio.wait(either, timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
        if answers.done():
            return answers.result()
        if gone.done():
            raise ClientDisconnect
        raise DeadlinePassed("the answer was not computed in time")
    finally:
        gone.cancel()
        answers.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
