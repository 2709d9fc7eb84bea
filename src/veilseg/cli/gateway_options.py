"""Options of ``veilseg gateway``."""

from pathlib import Path
from typing import Annotated

import typer

from veilseg.cli.groups import (
    BundlesOption,
    CaOption,
    ClientCertOption,
    ClientKeyOption,
    KeyOption,
    LocalOption,
    ServersOption,
    TimeoutOption,
    TokenFileOption,
    VaultsOption,
)


def gateway(
    bundles: BundlesOption,
    servers: ServersOption = None,
    vaults: VaultsOption = None,
    local: LocalOption = False,
    data: Annotated[Path | None, typer.Option(help="Folder of images that users may name.")] = None,
    audits: Annotated[
        list[Path] | None,
        typer.Option("--audit", help="What veilseg audit --json found; for the page; repeatable."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8001,
    cors: Annotated[
        list[str] | None,
        typer.Option(help="A page elsewhere that may ask, e.g. http://ohif.example; repeatable."),
    ] = None,
    tokens: Annotated[
        Path | None, typer.Option(help="Who may ask; see veilseg token (role infer).")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain (PEM).")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key (PEM).")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen to other machines without tokens or TLS.")
    ] = False,
    work: Annotated[
        Path | None, typer.Option(help="Where uploads lie for a while; default: temporary files.")
    ] = None,
    keep_minutes: Annotated[
        float, typer.Option(help="How long an upload is kept after its last use.", min=0.01)
    ] = 60,
    upload_mb: Annotated[int, typer.Option(help="Largest upload.", min=1)] = 2048,
    workers: Annotated[int, typer.Option(help="Images segmented at a time.", min=1)] = 2,
    deadline_s: Annotated[float, typer.Option(help="For one image.", min=1)] = 1800,
    timeout_s: TimeoutOption = 120.0,
    key_file: KeyOption = None,
    token_file: TokenFileOption = None,
    ca: CaOption = None,
    client_cert: ClientCertOption = None,
    client_key: ClientKeyOption = None,
    log_format: Annotated[str, typer.Option(help="text or json.")] = "text",
) -> None:
    """Segment for a web page, 3D Slicer and OHIF, on this machine or in this hospital."""
    from veilseg.cli.gateway import Door, run
    from veilseg.cli.halves import Route

    route = Route(
        bundles=bundles,
        servers=servers or [],
        vaults=vaults or [],
        local=local,
        key_file=key_file,
        timeout_s=timeout_s,
        token_file=token_file,
        ca=ca,
        client_cert=client_cert,
        client_key=client_key,
    )
    door = Door(host, port, tokens, tls_cert, tls_key, insecure, log_format)
    limits = {
        "data": data,
        "work": work,
        "origins": tuple(cors or ()),
        "workers": workers,
        "deadline_s": deadline_s,
        "session_s": keep_minutes * 60,
        "upload_bytes": upload_mb * 1024**2,
    }
    run(route, door, limits, audits or ())
