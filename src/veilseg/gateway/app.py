"""The gateway over HTTP: its fronts, and what stands before all of them."""

from types import MappingProxyType
from typing import Final

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from veilseg import __version__
from veilseg.gateway import monai_label
from veilseg.gateway.guards import OwnPagesOnly
from veilseg.gateway.http_errors import Explainer, handle_errors
from veilseg.gateway.page import assets
from veilseg.gateway.page import routes as page
from veilseg.gateway.page.documents import Disclosures
from veilseg.gateway.site import Site
from veilseg.serving.heads import BoundedHead
from veilseg.serving.http_errors import LastResort
from veilseg.serving.lingering import Lingering
from veilseg.serving.observing import Observed

NOTHING_AUDITED: Final[Disclosures] = MappingProxyType({})


def create_app(site: Site, disclosures: Disclosures = NOTHING_AUDITED) -> FastAPI:
    """The routes of every front over one site.

    Parameters
    ----------
    site : Site
    disclosures : mapping of bundle_id to Disclosure
        What audits say, for the page.
    """
    settings = site.settings
    # None of FastAPI's own pages: its documentation loads scripts from elsewhere.
    app = FastAPI(title="Veilseg gateway", docs_url=None, redoc_url=None, openapi_url=None)
    folders = [site.work] if settings.data is None else [site.work, settings.data]
    explain = Explainer(folders)
    handle_errors(app, explain)
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
    app.include_router(assets.router())
    app.include_router(page.router(site, explain, disclosures))
    return app
