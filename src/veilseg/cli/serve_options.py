"""Options of ``veilseg serve``; those that are not here are set by file or environment."""

from pathlib import Path
from typing import Annotated

import typer


def serve(
    bundles: Annotated[
        list[Path] | None, typer.Argument(help="Bundles whose server halves to serve.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file of settings; VEILSEG_SERVE_NAME and options override it."),
    ] = None,
    models: Annotated[
        Path | None, typer.Option(help="Folder of bundles that an admin loads and unloads.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address; default 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Default 8000; 0 takes a free one.")] = None,
    runtime: Annotated[
        str | None, typer.Option(help="openvino (default), or onnxruntime, in f32.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="bf16, f32, or auto (default): what is fastest.")
    ] = None,
    tokens: Annotated[Path | None, typer.Option(help="Who may do what; see veilseg token.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain (PEM).")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key (PEM).")] = None,
    client_ca: Annotated[
        Path | None, typer.Option(help="Let in only clients with certificates of this authority.")
    ] = None,
    insecure: Annotated[
        bool | None,
        typer.Option("--insecure", help="Listen to other machines without tokens or TLS."),
    ] = None,
    audit_log: Annotated[
        Path | None, typer.Option(help="Write down who asked for what; see veilseg log.")
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="text (default) or json.")] = None,
    engine: Annotated[
        str | None, typer.Option(help="uvicorn (default), or ray: replicas on Ray Serve.")
    ] = None,
    tune: Annotated[
        bool,
        typer.Option(
            "--tune", help="Measure streams, threads and batch size; keep them for next time; end."
        ),
    ] = False,
) -> None:
    """Serve models over the Open Inference Protocol v2."""
    from veilseg.cli.serve import serve as run

    run(
        bundles or (),
        config,
        tune,
        models=models,
        host=host,
        port=port,
        runtime=runtime,
        precision=precision,
        tokens=tokens,
        tls_cert=tls_cert,
        tls_key=tls_key,
        client_ca=client_ca,
        insecure=insecure,
        audit_log=audit_log,
        log_format=log_format,
        engine=engine,
    )
