"""The gateway over HTTP: its fronts, and what stands before all of them."""

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from veilseg import __version__
from veilseg.gateway import monai_label
from veilseg.gateway.guards import OwnPagesOnly
from veilseg.gateway.http_errors import handle_errors
from veilseg.gateway.site import Site
from veilseg.serving.heads import BoundedHead
from veilseg.serving.http_errors import LastResort
from veilseg.serving.lingering import Lingering
from veilseg.serving.observing import Observed


def create_app(site: Site) -> FastAPI:
    """The routes of every front over one site."""
    settings = site.settings
    # No pages: FastAPI's documentation loads scripts from elsewhere.
    app = FastAPI(title="Veilseg gateway", docs_url=None, redoc_url=None, openapi_url=None)
    folders = [site.work] if settings.data is None else [site.work, settings.data]
    handle_errors(app, tuple(folders))
    # The last is the first that a request meets.
    app.add_middleware(LastResort)
    app.add_middleware(
        Lingering, limit=lambda: settings.upload_bytes, timeout_s=settings.body_timeout_s
    )
    app.add_middleware(OwnPagesOnly, origins=settings.origins, local=site.tokens is None)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=["GET", "PUT", "POST", "DELETE"],
            allow_headers=["Authorization"],
        )
    app.add_middleware(BoundedHead, max_bytes=settings.head_bytes)
    app.add_middleware(Observed)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"state": "ready", "version": __version__}

    app.include_router(monai_label.router(site))
    return app
