"""Options of ``veilseg demo``."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the report; replaced.")] = Path(
        "demo-out"
    ),
    models: Annotated[Path, typer.Option(help="Folder with the brain-tissue bundles.")] = Path(
        "models"
    ),
) -> None:
    """Everything once, on a real brain: server, vault, plain, mixed and encoded, what leaks."""
    from veilseg.cli.demo import demo as run

    run(out, models)
