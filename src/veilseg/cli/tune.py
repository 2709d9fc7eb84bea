"""``veilseg serve --tune``."""

from functools import partial
from pathlib import Path

from veilseg.bundle import open_server_half
from veilseg.errors import InvalidInput
from veilseg.serving.runtime import require_available
from veilseg.serving.settings import Settings
from veilseg.serving.store import MANIFEST
from veilseg.serving.tuning import Trial, Tunings, tune_bundle


def tune_all(settings: Settings) -> None:
    """Tune every model that these settings would serve, and keep what was chosen.

    Raises
    ------
    InvalidInput
        If a model is not to be served at all.
    OutputNotWritable
        If a choice cannot be kept.
    """
    tunings = Tunings(settings.tuning)
    precision = require_available(settings.precision)
    if settings.models is not None and not settings.models.is_dir():
        raise InvalidInput(f"{settings.models}: no folder of bundles")
    folder = [] if settings.models is None else sorted(settings.models.iterdir())
    paths = [*settings.bundles, *(path for path in folder if (path / MANIFEST).is_file())]
    for bundle in map(open_server_half, paths):
        name = f"{bundle.manifest.name} {bundle.manifest.version}"
        found = tune_bundle(bundle, settings.precision, report=partial(_tell, name))
        if found is None:
            raise InvalidInput(f"{name}: fails its self-test: nothing to tune")
        chosen, trials = found
        kept: Path = tunings.put(bundle, precision, chosen, trials)
        _tell(f"{name}: chosen", chosen)
        print(f"{name}: kept in {kept}")


def _tell(what: str, trial: Trial) -> None:
    sizing = trial.sizing
    print(
        f"{what}: batch size {sizing.batch_size}, streams {sizing.streams}, threads"
        f" {sizing.threads}: {trial.tiles_per_s:.4g} tiles/s, alone {1000 * trial.lone_s:.4g} ms",
        flush=True,
    )
