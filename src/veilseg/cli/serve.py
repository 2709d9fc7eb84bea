"""``veilseg serve``: host the server halves of bundles."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from veilseg.cli.extras import needing
from veilseg.errors import WrongUsage

if TYPE_CHECKING:
    from veilseg.serving.models import RuntimeFactory
    from veilseg.serving.settings import Settings


def serve(
    bundles: Sequence[Path] = (), config: Path | None = None, tune: bool = False, **given: Any
) -> None:
    """Compile, self-test and serve until SIGTERM or SIGINT.

    Prints one line per model, then ``listening on http://HOST:PORT`` once connections are
    accepted. A model that fails its self-test is listed as not ready and answers 503; the
    others go on.

    Parameters
    ----------
    bundles : sequence of Path
        Only the server half of each is opened.
    config : Path, optional
        TOML file with settings.
    tune : bool
        Measure how each model best takes up this machine, keep that for the next start, and end.
    given
        Further :class:`~veilseg.serving.settings.Settings`; they and ``bundles`` come before the
        environment, and that before the file.

    Raises
    ------
    MissingDependency
        If the ``[server]`` extra is not installed.
    WrongUsage
        If a setting cannot be used, there is nothing to serve, or other machines would reach a
        server without tokens or TLS.
    InvalidInput
        If a bundle has no server half, two are the same version of one model, or the precision,
        host, port, tokens, certificates or audit log cannot be used.
    BundleIntegrity
        If a file of a bundle is not what its manifest pins.
    AuditLogBroken
        If the audit log does not end as it should.
    """
    # A site has this module too, but not what it takes to serve.
    with needing("server", "serving needs"):
        from veilseg.access.audit_log import AuditLog
        from veilseg.access.token_file import TokenFile
        from veilseg.serving import listen, logs, sockets
        from veilseg.serving.app import create_app
        from veilseg.serving.dataplane import DataPlane
        from veilseg.serving.models import ServedModel
        from veilseg.serving.onnx_runtime import require_f32
        from veilseg.serving.runtime import require_available
        from veilseg.serving.settings import load_settings
        from veilseg.serving.store import ModelStore
        from veilseg.serving.tls import ServerTls
        from veilseg.serving.tuning import Tunings, sizing_of
    settings = load_settings(config, {**given, "bundles": tuple(bundles) or None})
    if not settings.bundles and settings.models is None:
        raise WrongUsage("no bundle to serve: give bundles, or a folder of them with --models")
    available = require_f32 if settings.runtime == "onnxruntime" else require_available
    precision = available(settings.precision)
    logs.configure(settings.log_format, settings.log_level)
    if tune and settings.runtime != "openvino":
        raise WrongUsage(f"--tune: is for openvino, not {settings.runtime}")
    if tune:
        from veilseg.cli.tune import tune_all

        tune_all(settings)
        return
    tokens = None if settings.tokens is None else TokenFile(settings.tokens)
    tls = None
    if settings.tls_cert is not None and settings.tls_key is not None:
        tls = ServerTls(settings.tls_cert, settings.tls_key, settings.client_ca)
    with contextlib.ExitStack() as open_until_the_end:
        # Bound first: a port in use is told before minutes of compiling.
        listener = open_until_the_end.enter_context(sockets.bind(settings.host, settings.port))
        guards = {"--tokens": settings.tokens, "--tls-cert": settings.tls_cert}
        sockets.require_guarded(listener, settings.host, guards, settings.insecure)
        audit_log = None
        if settings.audit_log is not None:
            audit_log = open_until_the_end.enter_context(
                AuditLog(settings.audit_log, sync=settings.audit_sync)
            )
        tunings = Tunings(settings.tuning)
        make_runtime = open_until_the_end.enter_context(_engine(settings))
        store = ModelStore(
            settings.bundles,
            settings.models,
            lambda half: ServedModel(
                half, precision, make_runtime, sizing_of(half, settings, tunings)
            ),
        )
        for model in store.models:
            print(
                f"{model.name} {model.version} bundle {model.manifest.bundle_id[:12]}"
                f" precision {model.precision} tile {'x'.join(map(str, model.tile_shape))}"
                + (f" NOT READY: {model.failure}" if model.failure else "")
            )
        plane = DataPlane(store.models, settings, audit_log, store)
        app = create_app(plane, settings, tokens)
        print(f"listening on {sockets.url_of(listener, tls=tls is not None)}", flush=True)
        listen.run(app, listener, plane, settings, tls)


@contextlib.contextmanager
def _engine(settings: "Settings") -> "Iterator[RuntimeFactory]":
    """What computes: this process, or replicas on Ray, which is imported only here."""
    if settings.runtime == "onnxruntime":
        from veilseg.serving.onnx_runtime import OnnxRuntime

        yield OnnxRuntime
        return
    if settings.engine == "uvicorn":
        from veilseg.serving.runtime import OpenVinoRuntime

        yield OpenVinoRuntime
        return
    from veilseg.serving import ray_environment

    ray_environment.prepare(joins=settings.ray_address is not None)
    with needing("ray", "--engine ray needs"):
        from veilseg.serving.ray_engine import RayEngine
    replicas = settings.min_replicas, settings.max_replicas
    times = settings.drain_s, settings.deadline_s
    with RayEngine(settings.ray_address, *replicas, *times) as engine:
        yield engine.make_runtime
