"""``veilseg serve``: host the server halves of bundles."""

from pathlib import Path

from veilseg.bundle import open_server_half
from veilseg.errors import MissingDependency


def serve(
    bundles: list[Path], host: str = "127.0.0.1", port: int = 8000, precision: str = "auto"
) -> None:
    """Compile, self-test and serve until interrupted.

    Prints one line per model, then ``listening on http://HOST:PORT`` once connections are
    accepted. A model that fails its self-test is listed as not ready and answers 503; the
    others go on.

    Parameters
    ----------
    bundles : list of Path
        Only the server half of each is opened.
    host : str
        Interface to listen on; by default this machine only.
    port : int
        0 picks a free one.
    precision : {"auto", "bf16", "f32"}
        Arithmetic inside the networks; ``auto`` is bf16 where the CPU computes in it.

    Raises
    ------
    MissingDependency
        If the ``[server]`` extra is not installed.
    InvalidInput
        If a bundle has no server half, two have one name, or the precision, host or port
        cannot be used.
    BundleIntegrity
        If a file of a bundle is not what its manifest pins.
    """
    try:
        from veilseg.serving import listen
        from veilseg.serving.app import create_app
        from veilseg.serving.models import ModelRepository
        from veilseg.serving.runtime import require_available, require_precision
    except ImportError as error:
        # A site has this module too, but not what it takes to serve.
        raise MissingDependency(
            f"serving needs {error.name}: pip install 'veilseg[server]'"
        ) from error
    chosen = require_precision(precision)
    require_available(chosen)
    # Bound first: a port in use is told before minutes of compiling.
    with listen.bind(host, port) as listener:
        models = ModelRepository.load([open_server_half(bundle) for bundle in bundles], chosen)
        for model in models:
            manifest = model.manifest
            print(
                f"{manifest.name} {manifest.version} bundle {manifest.bundle_id[:12]}"
                f" precision {model.precision} tile {'x'.join(map(str, model.tile_shape))}"
                + (f" NOT READY: {model.failure}" if model.failure else "")
            )
        app = create_app(models)
        print(f"listening on {listen.url_of(listener)}", flush=True)
        listen.run(app, listener)
