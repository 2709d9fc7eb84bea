"""``veilseg gateway``: the site's local service."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from veilseg.cli.audits import disclosures
from veilseg.cli.extras import needing
from veilseg.cli.halves import Route, segmenters
from veilseg.errors import InvalidInput, WrongUsage


@dataclass(frozen=True)
class Door:
    """Where the gateway listens, who may come in, and how it tells of it."""

    host: str
    port: int
    tokens: Path | None
    tls_cert: Path | None
    tls_key: Path | None
    insecure: bool
    log_format: str


def run(route: Route, door: Door, limits: dict[str, Any], audits: Sequence[Path] = ()) -> None:
    """Serve until SIGTERM or SIGINT.

    Prints one line per model, then ``listening on http://HOST:PORT``.

    Raises
    ------
    MissingDependency
        If the ``[gateway]`` extra is not installed.
    WrongUsage
        If options do not go together, or other machines would reach it without tokens or TLS.
    InvalidInput, IntegrityError
        If a bundle, vault, folder, audit, host or port cannot be used.
    """
    with needing("gateway", "the gateway needs"):
        import multipart  # noqa: F401 - FastAPI looks for it only when a form comes

        from veilseg.access.token_file import TokenFile
        from veilseg.gateway.app import create_app
        from veilseg.gateway.settings import Settings
        from veilseg.gateway.site import open_site
        from veilseg.serving import logs, sockets
        from veilseg.serving.service import Limits, Service
        from veilseg.serving.tls import ServerTls
    if (door.tls_cert is None) != (door.tls_key is None):
        raise WrongUsage("--tls-cert, --tls-key: give both")
    if door.log_format not in ("text", "json"):
        raise WrongUsage(f"--log-format {door.log_format}: choose text or json")
    settings = Settings(**limits)
    if settings.data is not None and not settings.data.is_dir():
        raise InvalidInput(f"{settings.data}: no such folder")
    logs.configure("json" if door.log_format == "json" else "text", "info")
    tokens = None if door.tokens is None else TokenFile(door.tokens)
    tls = None
    if door.tls_cert is not None and door.tls_key is not None:
        tls = ServerTls(door.tls_cert, door.tls_key)
    with sockets.bind(door.host, door.port) as listener:
        guards = {"--tokens": door.tokens, "--tls-cert": door.tls_cert}
        sockets.require_guarded(listener, door.host, guards, door.insecure)
        with segmenters(route) as found, open_site(found, settings, tokens) as site:
            # Uploads that are still arriving lie there, too, and not where all others may look.
            tempfile.tempdir = str(site.work)
            manifests = [one.manifest for one in found]
            app = create_app(site, disclosures(audits, manifests))
            for manifest in manifests:
                print(f"{manifest.name} {manifest.version} bundle {manifest.bundle_id[:12]}")
            print(f"listening on {sockets.url_of(listener, tls=tls is not None)}", flush=True)
            bounds = Limits(
                settings.head_timeout_s,
                settings.head_bytes,
                settings.connections,
                settings.drain_s,
            )
            Service(app, bounds, tls).serve_on(listener)
