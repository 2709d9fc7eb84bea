"""``veilseg train``."""

from pathlib import Path

from veilseg.cli.progress import progress
from veilseg.errors import MissingDependency, WrongUsage


def train(
    dataset: Path,
    scheme: str,
    out: Path,
    steps: int | None,
    minutes: float | None,
    seed: int,
    resume: bool,
    init: Path | None,
    licence: str,
) -> None:
    """Train with a progress line per phase; needs the ``train`` extra."""
    try:
        from veilseg.schemes.trainable import TRAINABLE
        from veilseg.training.train import train as run
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"{error.name}: not installed: pip install 'veilseg[train]'"
        ) from error
    if scheme not in TRAINABLE:
        raise WrongUsage(f"--scheme {scheme}: unknown; choose one of {', '.join(TRAINABLE)}")
    with progress(out.name) as show:
        bundle_id = run(
            dataset,
            TRAINABLE[scheme],
            out,
            steps=steps,
            minutes=minutes,
            seed=seed,
            resume=resume,
            init=init,
            licence=licence,
            report=lambda what, done, total, note: show(done, total, f"{what} {note}"),
        )
    print(f"{out}: {scheme} bundle {bundle_id[:12]}")
