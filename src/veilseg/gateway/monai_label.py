"""MONAI Label's protocol, as 3D Slicer's module and OHIF's extension speak it."""

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import anyio.to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from veilseg.client.pipeline import Progress, Segmented
from veilseg.gateway import documents
from veilseg.gateway.documents import Wish
from veilseg.gateway.errors import InvalidRequest, NotOffered
from veilseg.gateway.forms import form_of
from veilseg.gateway.jobs import Job
from veilseg.gateway.multipart import FIELD_BYTES
from veilseg.gateway.segmenting import Segmenter, Subject
from veilseg.gateway.site import Site
from veilseg.imaging.formats import stem_of
from veilseg.serving.errors import DeadlinePassed
from veilseg.serving.visitors import visitor_of

# Parts of the protocol that teach a network, or keep what a person drew.
NOT_OFFERED: Final = (
    "activelearning",
    "batch",
    "datastore",
    "logs",
    "model",
    "scoring",
    "train",
)
METHODS: Final = ["GET", "PUT", "POST", "DELETE"]


def router(site: Site) -> APIRouter:
    """The protocol's routes over a site."""
    routes = APIRouter()

    @routes.get("/auth/")
    async def auth() -> dict[str, Any]:
        return {"enabled": site.tokens is not None, "client_id": "", "realm": ""}

    @routes.post("/auth/token")
    async def token(request: Request) -> dict[str, Any]:
        # Slicer asks for a name and a password: the token is the password.
        # Whoever asks for it has shown none yet: two words, and no file.
        async with form_of(
            request, site.settings, site.sessions.arriving, FIELD_BYTES, most_files=0
        ) as form:
            password = form.fields.get("password", "")
        visitor_of(f"Bearer {password}", site.tokens)
        return {"access_token": password, "token_type": "Bearer"}

    @routes.get("/auth/token/valid")
    async def valid(request: Request) -> dict[str, Any]:
        return {"username": site.visitor(request).site}

    @routes.get("/info/")
    async def info(request: Request) -> dict[str, Any]:
        site.visitor(request)
        images = await anyio.to_thread.run_sync(site.datastore.names)
        manifests = [one.manifest for one in site.segmenters.values()]
        return documents.info(manifests, len(images))

    @routes.get("/datastore/")
    async def datastore(request: Request, output: str = "") -> dict[str, Any]:
        site.visitor(request)
        names = await anyio.to_thread.run_sync(site.datastore.names)
        if output == "all":
            return {"name": "Veilseg", "objects": {name: {"labels": {}} for name in names}}
        return {"total": len(names), "completed": 0, "label_tags": {}}

    @routes.put("/datastore/")
    async def upload(request: Request, image: str = "") -> dict[str, Any]:
        # Slicer's "Upload volume": kept for a while as a session is, and called by this name.
        owner = site.visitor(request).site
        async with form_of(request, site.settings, site.sessions.arriving) as form:
            wish = Wish.of("", form.fields.get("params", ""))
            label = _label(wish, image or "image")
            await anyio.to_thread.run_sync(
                site.sessions.add, owner, form.files.get("file", []), 0, label
            )
        return {"image": image or "image"}

    @routes.put("/session/")
    async def create(request: Request, expiry: int = 0) -> dict[str, Any]:
        owner = site.visitor(request).site
        async with form_of(request, site.settings, site.sessions.arriving) as form:
            session = await anyio.to_thread.run_sync(
                site.sessions.add, owner, form.files.get("files", []), max(0, expiry)
            )
        return {"session_id": session.id, "session_info": session.document()}

    @routes.get("/session/{name}")
    async def find(request: Request, name: str) -> dict[str, Any]:
        return site.sessions.find(site.visitor(request).site, name).document()

    @routes.delete("/session/{name}")
    async def remove(request: Request, name: str) -> dict[str, Any]:
        return site.sessions.remove(site.visitor(request).site, name).document()

    @routes.post("/infer/{model}")
    async def infer(
        request: Request, model: str, image: str = "", session_id: str = "", output: str = ""
    ) -> Response:
        owner = site.visitor(request).site
        segmenter = site.segmenter(model)
        request.state.model = model
        async with form_of(request, site.settings, site.sessions.arriving) as form:
            wish = Wish.of(output, form.fields.get("params", ""))
            uploads = form.files.get("file", [])
            if uploads:
                # Kept for this request alone.
                session = await anyio.to_thread.run_sync(site.sessions.add, owner, uploads)
        try:
            session_id = session.id if uploads else session_id
            if not session_id and (named := site.sessions.labelled(owner, _label(wish, image))):
                session_id = named.id
            stored = None
            if image and not session_id:
                # It may have to look into every file: not while all others wait.
                stored = await anyio.to_thread.run_sync(site.datastore.find, image)
            with _source(site, owner, session_id, stored) as source:
                return await _segmented(site, request, segmenter, wish, source)
        finally:
            if uploads:
                await anyio.to_thread.run_sync(site.sessions.remove, owner, session.id)

    for part in NOT_OFFERED:
        routes.add_api_route(f"/{part}/{{rest:path}}", not_offered, methods=METHODS)
    return routes


async def not_offered() -> None:
    """Say so, of what this gateway does not do."""
    raise NotOffered("this gateway segments; it neither trains nor keeps labels")


def _label(wish: Wish, image: str) -> str:
    """What an uploaded image is known by: programs of one owner do not share their names."""
    return f"{wish.client}/{image}"


@contextmanager
def _source(
    site: Site, owner: str, session_id: str, stored: Path | None
) -> Iterator[tuple[Path, str]]:
    """An image, kept while it is used, and who it is of if nothing else tells."""
    if session_id:
        with site.sessions.used(owner, session_id) as session:
            yield session.image, f"upload {session.digest}"
    elif stored is not None:
        yield stored, stem_of(stored)
    else:
        raise InvalidRequest("image, session_id, file: give one of them")


async def _segmented(
    site: Site, request: Request, segmenter: Segmenter, wish: Wish, source: tuple[Path, str]
) -> Response:
    image, otherwise = source
    name = f"{uuid.uuid4()}{wish.ending}"

    def work(progress: Progress) -> tuple[Segmented, bytes]:
        subject = Subject.of(image, wish.subject, otherwise)
        output = site.work / name
        options: dict[str, Any] = {"allow_repeat": wish.allow_repeat, "dtype": wish.dtype}
        try:
            found = segmenter.run(image, subject, output, progress=progress, **options)
            return found, output.read_bytes()
        finally:
            output.unlink(missing_ok=True)

    job = site.jobs.begin(work)
    found, content = await _awaited(request, job, site.settings.deadline_s)
    request.state.tiles = job.total
    params = documents.told(found, segmenter.manifest)
    if wish.output == "json":
        return JSONResponse(params)
    if wish.output == "all":
        body, kind = documents.multipart(params, name, content, wish.ending)
        return Response(body, headers={"Content-Type": kind})
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, headers=headers, media_type=documents.MEDIA_TYPES[wish.ending])


async def _awaited(
    request: Request, job: Job[tuple[Segmented, bytes]], deadline_s: float
) -> tuple[Segmented, bytes]:
    """What a job gives, unless the user leaves or the time is over: then it is cancelled."""
    result = asyncio.wrap_future(job.result)
    gone = asyncio.ensure_future(_disconnected(request))
    either: set[asyncio.Future[Any]] = {result, gone}
    try:
        await asyncio.wait(either, timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
        if result.done():
            return result.result()
        if gone.done():
            raise ClientDisconnect
        raise DeadlinePassed("the image was not segmented in time")
    finally:
        gone.cancel()
        job.cancel()
        result.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
