"""Commands of two words: what a site keeps, and the key that sites share."""

from pathlib import Path
from typing import Annotated

import typer

site = typer.Typer(help="What a site keeps: key, references, ledger.", no_args_is_help=True)
key = typer.Typer(help="The key that the sites of a consortium share.", no_args_is_help=True)

BundleOption = Annotated[Path, typer.Option("--bundle", help="Folder of the trained bundle.")]
ReferencesOption = Annotated[
    str,
    typer.Option(
        "--references", help="Data set with labelled cases (nnU-Net layout), or 'synthetic'."
    ),
]
KeyFile = Annotated[Path, typer.Argument(help="Key file, private to you.")]


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
