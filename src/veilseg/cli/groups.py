"""Commands of two words: what a site keeps, the key that sites share, who may use a server."""

from pathlib import Path
from typing import Annotated

import typer

site = typer.Typer(help="What a site keeps: key, references, ledger.", no_args_is_help=True)
key = typer.Typer(help="The key that the sites of a consortium share.", no_args_is_help=True)
token = typer.Typer(help="Who may use a server.", no_args_is_help=True)
log = typer.Typer(help="The server's record of who asked.", no_args_is_help=True)

BundleOption = Annotated[Path, typer.Option("--bundle", help="Folder of the trained bundle.")]
ReferencesOption = Annotated[
    str,
    typer.Option(
        "--references", help="Data set with labelled cases (nnU-Net layout), or 'synthetic'."
    ),
]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Also write results here.")]
KeyOption = Annotated[
    Path | None, typer.Option("--key", help="Consortium key, for encoding with one.")
]
MixturesOption = Annotated[
    int,
    typer.Option("--mixtures", help="Average over K mixtures of an image; each shows more.", min=1),
]
BundlesOption = Annotated[
    list[Path], typer.Option("--bundle", help="Folder of a bundle; again for each model.")
]
VaultsOption = Annotated[
    list[Path] | None,
    typer.Option("--vault", help="The site's vault; again for each bundle that needs one."),
]
LocalOption = Annotated[bool, typer.Option("--local", help="Run both halves here.")]
ServersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--server", help="Address, e.g. http://127.0.0.1:8000; again for each further server."
    ),
]
TimeoutOption = Annotated[float, typer.Option(help="Of silence, in seconds.", min=0.1)]
TokenFileOption = Annotated[
    Path | None, typer.Option(help="Private file with a token; else VEILSEG_TOKEN is used.")
]
CaOption = Annotated[
    Path | None, typer.Option(help="Who vouches for the server (PEM); default: the system's.")
]
ClientCertOption = Annotated[Path | None, typer.Option(help="This site's certificate (PEM).")]
ClientKeyOption = Annotated[Path | None, typer.Option(help="Its key, if in another file.")]
KeyFile = Annotated[Path, typer.Argument(help="Key file, private to you.")]
TokensFile = Annotated[Path, typer.Argument(help="The server's tokens file.")]
TokenId = Annotated[str, typer.Argument(metavar="ID", help="As token list shows it.")]
TokenOut = Annotated[
    Path | None, typer.Option("--out", help="Private file for the token, instead of printing it.")
]


@site.command("init")
def site_init(
    vault: Annotated[Path, typer.Argument(help="Folder to make.")],
    bundle: BundleOption,
    references: ReferencesOption = "synthetic",
) -> None:
    """Make a vault: a fresh key, references and an empty ledger, private to you."""
    from veilseg.cli.site import init as run

    run(vault, bundle, references)


@site.command("forget")
def site_forget(
    subject: Annotated[str, typer.Argument(help="As given to segment --subject.")],
    vault: Annotated[Path, typer.Option("--vault", help="The site's vault.")],
) -> None:
    """Remove a subject's entries from the ledger."""
    from veilseg.cli.site import forget as run

    run(subject, vault)


@key.command("new")
def key_new(file: KeyFile) -> None:
    """Make a key; give it to the other sites, and never to the provider."""
    from veilseg.cli.key import new as run

    run(file)


@key.command("rotate")
def key_rotate(file: KeyFile) -> None:
    """Make a new key in the place of an old one, which is kept beside it."""
    from veilseg.cli.key import rotate as run

    run(file)


@token.command("issue")
def token_issue(
    file: TokensFile,
    site: Annotated[str, typer.Option("--site", help="Who will hold it; named in logs.")],
    roles: Annotated[
        list[str] | None,
        typer.Option("--role", help="infer (default), metrics, admin; repeatable."),
    ] = None,
    days: Annotated[float, typer.Option("--days", help="How long it is valid.")] = 90,
    out: TokenOut = None,
) -> None:
    """Make a token and print it once; the file keeps only its hash."""
    from veilseg.cli.token import issue as run

    run(file, site, roles or ["infer"], days, out)


@token.command("rotate")
def token_rotate(
    file: TokensFile,
    name: TokenId,
    grace_hours: Annotated[
        float, typer.Option("--grace-hours", help="The old one is valid for so long.", min=0)
    ] = 24,
    out: TokenOut = None,
) -> None:
    """Make a new token for the same site and roles; the old one ends soon."""
    from veilseg.cli.token import rotate as run

    run(file, name, grace_hours, out)


@token.command("revoke")
def token_revoke(file: TokensFile, name: TokenId) -> None:
    """End a token at once; running servers notice."""
    from veilseg.cli.token import revoke as run

    run(file, name)


@token.command("list")
def token_list(file: TokensFile) -> None:
    """Show site, roles, end and state of each token."""
    from veilseg.cli.token import show as run

    run(file)


@log.command("verify")
def log_verify(
    files: Annotated[
        list[Path], typer.Argument(help="The audit log; its parts in order, if it was split.")
    ],
    head: Annotated[
        str | None,
        typer.Option("--head", help="COUNT:HASH, as printed earlier and kept elsewhere."),
    ] = None,
) -> None:
    """Check that no line was changed, removed or put in; print the head to keep elsewhere."""
    from veilseg.cli.log import check as run

    run(files, head)
