"""Commands of several sites that train together: contribute, fit, and project."""

from pathlib import Path
from typing import Annotated

import typer

from veilseg.cli.groups import BundleOption

project = typer.Typer(help="What several sites train together.", no_args_is_help=True)

ProjectArgument = Annotated[str, typer.Argument(help="Name of the project.")]
SiteArgument = Annotated[str, typer.Argument(help="Name of the site.")]
ProjectOption = Annotated[str, typer.Option("--project", help="Name of the project.")]
ServerOption = Annotated[
    str, typer.Option("--server", help="The project's service, e.g. http://127.0.0.1:8100.")
]
TokenOption = Annotated[
    Path | None,
    typer.Option("--token-file", help="This site's token, private to you; or VEILSEG_TOKEN."),
]
CaOption = Annotated[
    Path | None, typer.Option("--ca", help="Certificates that vouch for the service (PEM).")
]
StoreOption = Annotated[
    Path, typer.Option("--store", help="The provider's folder of all projects.")
]
DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database",
        envvar="VEILSEG_DATABASE",
        help="postgresql+psycopg://USER@HOST/NAME; default: SQLite in the store.",
    ),
]
BlobsOption = Annotated[
    str | None, typer.Option("--blobs", help="Where shards lie, any URL of fsspec.")
]


def contribute(
    dataset: Annotated[Path, typer.Argument(help="Labelled data set, nnU-Net raw layout.")],
    project: ProjectOption,
    server: ServerOption,
    bundle: BundleOption,
    vault: Annotated[Path | None, typer.Option(help="The site's vault (mixup).")] = None,
    key_file: Annotated[
        Path | None, typer.Option("--key", help="Consortium key, for encoding with one.")
    ] = None,
    token_file: TokenOption = None,
    ca: CaOption = None,
    split: Annotated[
        str, typer.Option(help="train: what the default split trains on; or all.")
    ] = "train",
    views: Annotated[
        int, typer.Option(help="Protected views of each case; more teach and tell more.", min=1)
    ] = 8,
    beside: Annotated[
        bool, typer.Option("--beside", help="Beside what this site has contributed already.")
    ] = False,
) -> None:
    """Protect labelled cases and give the pairs to a project; interrupted, it goes on."""
    from veilseg.cli.contribute import Request
    from veilseg.cli.contribute import contribute as run

    given = dataset, project, server, bundle, vault, key_file, token_file, ca
    run(Request(*given, split, views, beside))


def fit(
    project: ProjectOption,
    store: StoreOption,
    database: DatabaseOption = None,
    blobs: BlobsOption = None,
    steps: Annotated[int, typer.Option(help="Optimiser steps.", min=1)] = 1000,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1)] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the last fit, which did not end.")
    ] = False,
    server: Annotated[
        str | None,
        typer.Option("--server", help="Where to have the version hosted; needs an admin's token."),
    ] = None,
    token_file: TokenOption = None,
    ca: CaOption = None,
) -> None:
    """Fit the server network to all contributions, from nothing, and publish a version."""
    from veilseg.cli.project import Hosting, Place
    from veilseg.cli.project import fit as run

    hosting = None if server is None else Hosting(server, token_file, ca)
    run(Place(store, database, blobs), project, steps, seed, resume, hosting)


@project.command("create")
def create(
    project: ProjectArgument,
    store: StoreOption,
    bundle: Annotated[Path, typer.Option("--bundle", help="Whose server half it begins with.")],
    database: DatabaseOption = None,
    blobs: BlobsOption = None,
) -> None:
    """Open a project (provider)."""
    from veilseg.cli.project import Place
    from veilseg.cli.project import create as run

    run(Place(store, database, blobs), project, bundle)


@project.command("invite")
def invite(
    project: ProjectArgument,
    site: SiteArgument,
    store: StoreOption,
    days: Annotated[int, typer.Option(help="Until the token expires.", min=1)] = 90,
    database: DatabaseOption = None,
) -> None:
    """Print a token for a site, once (provider)."""
    from veilseg.cli.project import Place
    from veilseg.cli.project import invite as run

    run(Place(store, database, None), project, site, days)


@project.command("revoke")
def revoke(
    project: ProjectArgument,
    site: SiteArgument,
    store: StoreOption,
    database: DatabaseOption = None,
) -> None:
    """Take a site's tokens away (provider)."""
    from veilseg.cli.project import Place
    from veilseg.cli.project import revoke as run

    run(Place(store, database, None), project, site)


@project.command("remove")
def remove(
    project: ProjectArgument,
    site: SiteArgument,
    store: StoreOption,
    database: DatabaseOption = None,
    blobs: BlobsOption = None,
) -> None:
    """Take a site's tokens and all its contributions away (provider)."""
    from veilseg.cli.project import Place
    from veilseg.cli.project import remove as run

    run(Place(store, database, blobs), project, site)


@project.command("close")
def close(
    project: ProjectArgument,
    store: StoreOption,
    database: DatabaseOption = None,
    reopen: Annotated[bool, typer.Option("--reopen", help="Take contributions again.")] = False,
) -> None:
    """Take no more contributions (provider)."""
    from veilseg.cli.project import Place
    from veilseg.cli.project import close as run

    run(Place(store, database, None), project, reopen)


@project.command("serve")
def serve(
    store: StoreOption,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8100,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain (PEM).")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key (PEM).")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Other machines may reach it without TLS.")
    ] = False,
    most_gib: Annotated[
        float | None,
        typer.Option("--most-gib", help="All shards of a site together; default: no limit.", min=0),
    ] = None,
    audit_log: Annotated[
        Path | None, typer.Option("--audit-log", help="Who contributed and withdrew what.")
    ] = None,
    database: DatabaseOption = None,
    blobs: BlobsOption = None,
) -> None:
    """Serve all projects of a store to their sites (provider)."""
    from veilseg.cli.project import Listening, Place
    from veilseg.cli.project import serve as run

    most_bytes = None if most_gib is None else round(most_gib * 2**30)
    guards = tls_cert, tls_key, insecure, most_bytes, audit_log
    run(Place(store, database, blobs), Listening(host, port, *guards))


@project.command("host")
def host(
    project: ProjectArgument,
    store: StoreOption,
    server: Annotated[str, typer.Option("--server", help="Which hosts the store's models.")],
    database: DatabaseOption = None,
    token_file: TokenOption = None,
    ca: CaOption = None,
) -> None:
    """Have the newest version hosted, where a fit could not; needs an admin's token (provider)."""
    from veilseg.cli.project import Hosting, Place
    from veilseg.cli.project import host as run

    run(Place(store, database, None), project, Hosting(server, token_file, ca))


@project.command("status")
def status(
    project: ProjectArgument,
    server: ServerOption,
    token_file: TokenOption = None,
    ca: CaOption = None,
) -> None:
    """What is there, how far a fit is, what this site contributed (site)."""
    from veilseg.cli.project import Membership
    from veilseg.cli.project import status as run

    run(Membership(project, server, token_file, ca))


@project.command("withdraw")
def withdraw(
    project: ProjectArgument,
    server: ServerOption,
    contribution: Annotated[str | None, typer.Option(help="Its key; default: all.")] = None,
    token_file: TokenOption = None,
    ca: CaOption = None,
) -> None:
    """Take this site's contributions back: deleted, and gone from the next fit (site)."""
    from veilseg.cli.project import Membership
    from veilseg.cli.project import withdraw as run

    run(Membership(project, server, token_file, ca), contribution)


@project.command("pull")
def pull(
    project: ProjectArgument,
    server: ServerOption,
    bundle: BundleOption,
    out: Annotated[Path, typer.Option("--out", help="Bundle folder to write.")],
    version: Annotated[int | None, typer.Option(help="Default: the newest.", min=1)] = None,
    token_file: TokenOption = None,
    ca: CaOption = None,
) -> None:
    """Make the client half by which a version is used (site)."""
    from veilseg.cli.project import Membership
    from veilseg.cli.project import pull as run

    run(Membership(project, server, token_file, ca), bundle, out, version)


@project.command("rotate-token")
def rotate_token(
    project: ProjectArgument,
    server: ServerOption,
    token_file: TokenOption = None,
    ca: CaOption = None,
) -> None:
    """Put a new token into the token file (site)."""
    from veilseg.cli.project import Membership
    from veilseg.cli.project import rotate_token as run

    run(Membership(project, server, token_file, ca))
