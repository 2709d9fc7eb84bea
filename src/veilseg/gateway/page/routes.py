"""The page's routes: an image begins, is watched, and is looked at."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import asdict
from typing import Any, Final

import anyio.to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from veilseg.gateway.errors import Cancelled, InvalidRequest, UnknownObject
from veilseg.gateway.forms import fields_of
from veilseg.gateway.http_errors import Explainer
from veilseg.gateway.page import documents
from veilseg.gateway.page.documents import Disclosures
from veilseg.gateway.page.looking import ENDING, VIEWS
from veilseg.gateway.page.segmentation import download, segmented
from veilseg.gateway.page.tasks import State, Task, Tasks
from veilseg.gateway.site import Site

LONGEST_SUBJECT: Final = 256
NOT_KEPT: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def router(site: Site, explain: Explainer, disclosures: Disclosures) -> APIRouter:
    """The page's questions over a site; uploads go to ``/session/``."""
    routes = APIRouter(prefix="/page")
    tasks = Tasks(site.jobs, site.sessions, site.settings.deadline_s)

    @routes.get("/about")
    async def about(request: Request) -> dict[str, Any]:
        site.visitor(request)
        return documents.about(list(site.segmenters.values()), site.settings, disclosures)

    @routes.post("/tasks", status_code=202)
    async def begin(request: Request) -> dict[str, str]:
        owner = site.visitor(request).site
        fields = await fields_of(request, site.settings)
        segmenter = site.segmenter(_text(fields, "model"))
        request.state.model = segmenter.manifest.name
        session, subject = _text(fields, "session_id"), _text(fields, "subject").strip()
        repeat = fields.get("allow_repeat") is True
        task = tasks.begin(
            *(owner, session, segmenter.manifest.name),
            lambda task, progress: segmented(site, segmenter, task, subject, repeat, progress),
        )
        return {"task": task.id}

    @routes.get("/tasks/{name}/events")
    async def events(request: Request, name: str) -> StreamingResponse:
        task = tasks.find(site.visitor(request).site, name)
        return StreamingResponse(
            _events(task, explain), headers=NOT_KEPT, media_type="text/event-stream"
        )

    @routes.delete("/tasks/{name}", status_code=202)
    async def cancel(request: Request, name: str) -> dict[str, str]:
        task = tasks.find(site.visitor(request).site, name)
        task.end(Cancelled("cancelled"))
        return {"task": task.id}

    @routes.get("/tasks/{name}/views/{view}")
    async def view(request: Request, name: str, view: str) -> Response:
        task = tasks.find(site.visitor(request).site, name)
        if task.result is None or view not in VIEWS:
            raise UnknownObject("view: there is none of that name")
        with site.sessions.used(task.owner, task.session_id) as session:
            file = session.folder / task.id / f"{view}{ENDING}"
            content = await anyio.to_thread.run_sync(file.read_bytes)
        return Response(content, headers=NOT_KEPT, media_type="application/octet-stream")

    @routes.get("/tasks/{name}/download/{kind}")
    async def result(request: Request, name: str, kind: str) -> Response:
        task = tasks.find(site.visitor(request).site, name)
        if task.result is None or kind not in task.result["downloads"]:
            raise UnknownObject("download: there is none of that kind")
        manifest = site.segmenter(task.model).manifest
        with site.sessions.used(task.owner, task.session_id) as session:
            content = await anyio.to_thread.run_sync(download, session, task.id, kind, manifest)
        return Response(content, headers=NOT_KEPT, media_type="application/octet-stream")

    @routes.post("/ledger")
    async def ledger(request: Request) -> dict[str, Any]:
        # In the body, for addresses end up in histories and logs.
        site.visitor(request)
        fields = await fields_of(request, site.settings)
        segmenter, subject = site.segmenter(_text(fields, "model")), _text(fields, "subject")
        if not subject.strip():
            raise InvalidRequest("subject: say who it is")
        sent = await anyio.to_thread.run_sync(segmenter.sent, subject.strip())
        return {"sent": documents.ledger(sent)}

    return routes


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name, "")
    if not isinstance(value, str) or len(value) > LONGEST_SUBJECT:
        raise InvalidRequest(f"{name}: no text of up to {LONGEST_SUBJECT} characters")
    return value


async def _events(task: Task, explain: Explainer) -> AsyncIterator[str]:
    """States as server-sent events, the last with what became of the image."""
    async with aclosing(task.states()) as states:
        async for state in states:
            # A comment keeps the line open, and notices a page that is gone.
            yield ": still there\n\n" if state is None else _event(task, state, explain)


def _event(task: Task, state: State, explain: Explainer) -> str:
    document: dict[str, Any] = asdict(state)
    if state.stage == "done":
        document["result"] = task.result
    elif state.ended and isinstance(task.error, Exception):
        document["status"], document["detail"] = explain(task.error)
    return f"data: {json.dumps(document)}\n\n"
