"""The page's own files, and the law that it asks for no others."""

from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final

from fastapi import APIRouter, Response

from veilseg.gateway.errors import UnknownObject

# Drawn with WebGL by NiiVue, which has its letters as data: pictures. Nothing comes from elsewhere.
POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # An upgraded gateway must not meet yesterday's page.
    "Cache-Control": "no-cache",
}
TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
# Comes by npm when Veilseg is built; the page says so where it is missing.
NIIVUE: Final = "niivue.umd.js"


def router() -> APIRouter:
    """The page at ``/`` and its files, which tell nothing of anybody: no token is needed."""
    routes = APIRouter()
    static = resources.files("veilseg.gateway.page") / "static"
    files = {one.name: one for folder in (static, static / "vendor") for one in _files(folder)}

    @routes.get("/")
    async def index() -> Response:
        return _answer(files["index.html"])

    @routes.get("/assets/{name}")
    async def asset(name: str) -> Response:
        if name not in files:
            raise UnknownObject("assets: no such file")
        return _answer(files[name])

    return routes


def _files(folder: Traversable) -> list[Traversable]:
    return [one for one in folder.iterdir() if one.is_file()] if folder.is_dir() else []


def _answer(file: Traversable) -> Response:
    ending = file.name[file.name.rindex(".") :]
    return Response(file.read_bytes(), headers=HEADERS, media_type=TYPES[ending])
