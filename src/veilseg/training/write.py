"""Writing a bundle: both halves, a self-test without any patient in it, and a model card."""

import contextlib
import math
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from veilseg import __version__
from veilseg.bundle import (
    ANSWER_TENSOR,
    PROXY_TENSOR,
    ClientManifest,
    ServerManifest,
    TensorSpec,
    seal,
)
from veilseg.datasets.layout import Dataset
from veilseg.datasets.split import TEST_SHARE, VALIDATION_SHARE
from veilseg.errors import OutputNotWritable
from veilseg.training.card import model_card
from veilseg.training.checkpoint import training_precision
from veilseg.training.interface import SchemeTraining
from veilseg.training.plan import Plan
from veilseg.training.run import Run
from veilseg.training.server_half import write_server_half

WIRE_DATATYPE = "FP16"
TILE_OVERLAP = 0.25


def write_bundle(
    out: Path,
    dataset: Dataset,
    scheme: SchemeTraining,
    plan: Plan,
    run: Run,
    start: dict[str, Any] | None,
    licence: str,
    split_sizes: dict[str, int],
    validation_dice: float,
) -> str:
    """Export, verify and seal both halves beside ``out``, then move them in.

    Returns
    -------
    str
        The bundle id.

    Raises
    ------
    IntegrityError
        If an exported model differs from the trained one.
    OutputNotWritable
        If the disk is full, say. The checkpoint is still there to resume from.
    """
    name = out.resolve().name
    sent, answered = scheme.wire_shapes(len(dataset.channels), len(dataset.labels), plan.tile_shape)
    proxy = TensorSpec(PROXY_TENSOR, WIRE_DATATYPE, (1, *sent))
    answer = TensorSpec(ANSWER_TENSOR, WIRE_DATATYPE, (1, *answered))
    client = ClientManifest(
        name=name,
        version="1",
        scheme=scheme.name,
        labels=dataset.labels,
        spatial_dims=len(plan.tile_shape),
        channels=dataset.channels,
        spacing_mm=plan.spacing_mm,
        unit=plan.unit,
        tile_shape=plan.tile_shape,
        tile_overlap=TILE_OVERLAP,
        intensity=plan.intensity,
        expectation=plan.expectation,
        proxy=proxy,
        answer=answer,
        settings=scheme.settings(),
        licence=licence,
        provenance=_provenance(dataset, run, split_sizes, start),
        # Undefined where no validation image has or gets foreground.
        metrics={"validation_dice": _number(validation_dice)},
    )
    server = ServerManifest(
        name=name, version="1", proxy=proxy, answer=answer, fitting=scheme.fitting()
    )
    with _writing_to(out) as stage:
        for half in ("client", "server"):
            (stage / half).mkdir()
        nobody = scheme.selftest_image(np.random.default_rng([run.seed, 2]))
        write_server_half(stage / "server", server, scheme.server_network, nobody)
        scheme.write_client_files(stage / "client", plan.tile_shape)
        bundle_id = seal(stage, client, server)
        (stage / "README.md").write_text(model_card(client, bundle_id), encoding="utf-8")
        for part in ("client", "server", "README.md"):
            _replace(stage / part, out / part)
    return bundle_id


@contextlib.contextmanager
def _writing_to(out: Path) -> Iterator[Path]:
    """A folder beside the bundle's parts, gone afterwards."""
    try:
        with tempfile.TemporaryDirectory(prefix=".veilseg-", dir=out) as staging:
            yield Path(staging)
    except OSError as error:
        raise OutputNotWritable(f"{out}: cannot be written: {error.strerror}") from error


def _number(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def _replace(source: Path, target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    source.replace(target)


def _provenance(
    dataset: Dataset, run: Run, split_sizes: dict[str, int], start: dict[str, Any] | None
) -> dict[str, Any]:
    return {
        "dataset": dataset.name,
        "data_sha256": run.data_sha256,
        "patients_sha256": run.patients_sha256,
        "cases": split_sizes,
        "split": {"by": "patient", "test_share": TEST_SHARE, "validation_share": VALIDATION_SHARE},
        "seed": run.seed,
        "steps": run.steps,
        "batch": run.batch,
        "fold": run.fold or None,
        "variant": run.variant or None,
        "recipe": asdict(run.recipe),
        "precision": training_precision(),
        "veilseg": __version__,
        "torch": torch.__version__,
        "commit": _commit(),
        "init": start,
    }


def _commit() -> str:
    """The commit of this source where it runs from a checkout, and whether it was changed."""
    try:
        commit, changes = (
            subprocess.run(
                ["git", *command],
                cwd=Path(__file__).parents[1],
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip()
            for command in (("rev-parse", "HEAD"), ("status", "--porcelain", "--", "."))
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit} (modified)" if changes else commit
