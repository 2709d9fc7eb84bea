"""``veilseg train``."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

from veilseg.cli.extras import needing
from veilseg.cli.key import read_key
from veilseg.cli.progress import Report, progress
from veilseg.datasets.split import Fold
from veilseg.errors import WrongUsage


def train(
    dataset: Path,
    scheme: str,
    out: Path,
    steps: int | None,
    minutes: float | None,
    seed: int,
    resume: bool,
    init: Path | None,
    fold: str | None,
    unmixing: str,
    coefficients: str,
    key_file: Path | None,
    strength: float | None,
    control: str | None,
    licence: str,
    label_codes: Path | None,
) -> None:
    """Train with a progress line per phase; needs the ``train`` extra."""
    with needing("train", "training needs"):
        from veilseg.schemes.trainable import CONTROLS, TRAINABLE, WITH_STRENGTH
        from veilseg.training.processes import is_first
        from veilseg.training.recipe import Recipe, Unmixing, parse_range
        from veilseg.training.train import train as run
    if scheme not in TRAINABLE:
        raise WrongUsage(f"--scheme {scheme}: unknown; choose one of {', '.join(TRAINABLE)}")
    if unmixing not in get_args(Unmixing):
        raise WrongUsage(f"--unmixing {unmixing}: choose learned or algebraic")
    recipe = Recipe(unmixing=cast(Unmixing, unmixing), coefficient_range=parse_range(coefficients))
    if scheme != "mixup" and recipe != Recipe():
        raise WrongUsage(f"--unmixing, --coefficients: {scheme} mixes nothing")
    if init is not None and scheme == "encoding":
        raise WrongUsage("--init: no bundle holds all of an encoding's networks to start from")
    build: Callable[..., Any] = TRAINABLE[scheme]
    if control is not None:
        of_scheme, build = CONTROLS.get(control, ("", build))
        if of_scheme != scheme:
            known = ", ".join(f"{name} of {one}" for name, (one, _) in CONTROLS.items())
            raise WrongUsage(f"--control {control}: there are {known}")
    if key_file is not None:
        if scheme != "encoding":
            raise WrongUsage(f"--key: {scheme} encodes nothing")
        build = partial(build, key=read_key(key_file))
    if strength is not None:
        if scheme not in WITH_STRENGTH:
            raise WrongUsage(f"--strength: {scheme} has none")
        if not 0 < strength < math.inf:
            raise WrongUsage(f"--strength {strength:g}: needs a number above 0")
        build = partial(build, strength=strength)
    part = None if fold is None else Fold.parse(fold)
    quiet: Report = _silent
    with progress(out.name) if is_first() else nullcontext(quiet) as show:
        bundle_id = run(
            dataset,
            build,
            out,
            steps=steps,
            minutes=minutes,
            seed=seed,
            resume=resume,
            init=init,
            fold=part,
            recipe=recipe,
            licence=licence,
            label_codes=label_codes,
            report=lambda what, done, total, note: show(done, total, f"{what} {note}"),
        )
    if bundle_id is not None:
        print(f"{out}: {scheme} bundle {bundle_id[:12]}")


def _silent(done: int, total: int, note: str = "") -> None:
    """Of several processes the first alone reports."""
