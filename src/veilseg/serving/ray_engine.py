"""Networks as Ray Serve deployments: replicas that follow the load, on one machine or many.

The server stays what it is, with its guards and its fair queue; what it would compute itself goes
to a replica of the network, wherever in the cluster that is. Only this module knows Ray, and it is
imported only where the engine is chosen, after ``ray_environment.prepare``.
"""

import asyncio
import contextlib
import itertools
import logging
import tempfile
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import ray
from ray import serve
from ray.exceptions import RayActorError, WorkerCrashedError

from veilseg.bundle import TensorSpec
from veilseg.errors import InvalidInput
from veilseg.serving.ray_environment import is_on_loopback
from veilseg.serving.runtime import OpenVinoRuntime, Precision, Sizing
from veilseg.wire.tensors import FloatArray

logger = logging.getLogger(__name__)

LOOPBACK: Final = "127.0.0.1"
NAMESPACE: Final = "veilseg"
# A replica that is lost takes its tiles along; a network has no memory, so that another computes
# them just as well. More than so many in a row are no accident.
ATTEMPTS: Final = 4
# For compiling a large network on a busy machine.
START_S: Final = 300.0


class Network:
    """A replica: one network, compiled where it runs.

    Parameters
    ----------
    model : bytes
        ONNX, as the bundle pins it: a machine of the cluster does not have the bundle.
    proxy, answer : TensorSpec
    precision : {"bf16", "f32"}
        The same on all machines; one that does not compute in it takes no replica.
    sizing : Sizing
    """

    def __init__(
        self,
        model: bytes,
        proxy: TensorSpec,
        answer: TensorSpec,
        precision: Precision,
        sizing: Sizing,
    ) -> None:
        if is_on_loopback():
            _listen_on_loopback()
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.onnx"
            file.write_bytes(model)
            self._runtime = OpenVinoRuntime(file, proxy, answer, precision, sizing)

    async def run(self, batch: FloatArray) -> FloatArray:
        """As :meth:`OpenVinoRuntime.run`; the replica goes on to hear its controller meanwhile."""
        return await asyncio.to_thread(self._runtime.run, batch)

    async def precision(self) -> str:
        """As :attr:`OpenVinoRuntime.precision`."""
        return self._runtime.precision


def _listen_on_loopback() -> None:
    """Keep a replica's port for other deployments, of which there are none, on loopback.

    Ray Serve has all interfaces written into its code. A replica opens the port after its network
    is made, so that it is not too late here.
    """
    from ray.serve._private import replica

    bind = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, _: bind(server, f"{LOOPBACK}:0")


class RayRuntime:
    """Replicas of one network, as a :class:`~veilseg.serving.runtime.Runtime`.

    Parameters
    ----------
    handle
        Of the deployment.
    name : str
        Of its application.
    streams : int
    deadline_s : float
        After which nobody waits for an answer any more.
    """

    def __init__(self, handle: Any, name: str, streams: int, deadline_s: float) -> None:
        self._handle = handle
        self._name = name
        self._streams = streams
        self._deadline_s = deadline_s
        self._precision = str(handle.precision.remote().result(timeout_s=START_S))

    @property
    def precision(self) -> str:
        """What the arithmetic is done in: ``bf16`` or ``f32``."""
        return self._precision

    @property
    def streams(self) -> int:
        """How many threads may run batches at a time."""
        return self._streams

    def run(self, batch: FloatArray) -> FloatArray:
        """Process one batch on whichever replica is free.

        Raises
        ------
        RayActorError, WorkerCrashedError
            If replica after replica is lost.
        TimeoutError
            If one neither answers nor is lost: a machine that hangs must not hold a thread.
        """
        for attempt in itertools.count(1):
            asked = self._handle.run.remote(batch)
            try:
                answer: FloatArray = asked.result(timeout_s=self._deadline_s)
            except TimeoutError:
                asked.cancel()
                raise
            except (RayActorError, WorkerCrashedError):
                if attempt == ATTEMPTS:
                    raise
                logger.warning("a replica was lost with a batch, which goes to another")
            else:
                # What lies in Ray's store is not ours to keep.
                return answer.copy()
        raise AssertionError  # pragma: no cover - the loop ends in itself

    def close(self) -> None:
        """End the replicas."""
        serve.delete(self._name)


class RayEngine:
    """Ray with Ray Serve, started on this machine or joined; a context manager.

    On this machine all of its ports are on loopback, it has no dashboard, and it ends with the
    block. Whoever has the token of a cluster runs code on all of its machines.

    Parameters
    ----------
    address : str, optional
        Of a cluster that runs already.
    min_replicas, max_replicas : int
        Of each network.
    drain_s : float
        What a replica that has to go may still finish in.
    deadline_s : float
        Within which a request has to be answered.

    Raises
    ------
    InvalidInput
        If there is no cluster at the address.
    """

    def __init__(
        self,
        address: str | None,
        min_replicas: int,
        max_replicas: int,
        drain_s: float,
        deadline_s: float,
    ) -> None:
        self._address = address
        self._replicas = min_replicas, max_replicas
        self._drain_s, self._deadline_s = drain_s, deadline_s
        # Several servers may share a cluster, each with networks of its own.
        self._mine = uuid.uuid4().hex[:8]
        self._numbers = itertools.count(1)
        self._running: set[str] = set()

    def __enter__(self) -> Self:
        options: dict[str, Any] = {
            "namespace": NAMESPACE,
            "log_to_driver": False,
            "configure_logging": False,
        }
        if self._address is None:
            options |= {"include_dashboard": False}
        try:
            ray.init(address=self._address or "local", **options)
        # Of whatever type: Ray raises bare exceptions, too.
        except Exception as error:
            where = self._address or "this machine"
            raise InvalidInput(f"Ray on {where}: {_line(error)}") from error
        # Requests come to our server, which guards them; Ray's own would listen beside it.
        serve.start(proxy_location="Disabled", http_options={"host": LOOPBACK})
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._address is None:
            serve.shutdown()
        else:
            for name in list(self._running):
                with contextlib.suppress(Exception):
                    serve.delete(name)
        ray.shutdown()

    def make_runtime(
        self,
        model_file: Path,
        proxy: TensorSpec,
        answer: TensorSpec,
        precision: Precision,
        sizing: Sizing,
    ) -> RayRuntime:
        """Deploy a network and wait for its first replicas.

        Raises
        ------
        InvalidInput
            If the cluster has no cores left for them.
        RuntimeError
            If none comes to life.
        """
        least, most = self._replicas
        threads = sizing.threads or 1
        # On one machine there is nothing to place; and a new version starts beside the old one.
        cores = 0 if self._address is None else threads
        free = ray.available_resources().get("CPU", 0)
        if free < cores * least:
            raise InvalidInput(f"Ray has {free:g} free cores, {cores * least} are needed")
        # One batch more than are computed, so that a replica never waits for the wire.
        at_once = sizing.streams + 1
        scaling: dict[str, Any] = {"num_replicas": most}
        if least < most:
            scaling = {
                "autoscaling_config": {
                    "min_replicas": least,
                    "max_replicas": most,
                    "target_ongoing_requests": at_once,
                }
            }
        deployment = serve.deployment(Network).options(
            name="network",
            max_ongoing_requests=at_once,
            graceful_shutdown_timeout_s=self._drain_s,
            ray_actor_options={"num_cpus": cores},
            **scaling,
        )
        name = f"veilseg-{self._mine}-{next(self._numbers)}"
        sized = Sizing(sizing.batch_size, sizing.streams, threads)
        application = deployment.bind(model_file.read_bytes(), proxy, answer, precision, sized)
        self._running.add(name)
        try:
            target = serve.RunTarget(application, name=name, route_prefix=None)
            (handle,) = serve.run_many([target], wait_for_applications_running=False)
            _wait_for(name)
            return RayRuntime(handle, name, most * at_once, self._deadline_s)
        except BaseException:
            serve.delete(name)
            raise


def _wait_for(name: str) -> None:
    """Until an application runs; ``serve.run`` would wait for ever where there is no room."""
    deadline = time.monotonic() + START_S
    while (state := serve.status().applications[name].status) != "RUNNING":
        if state == "DEPLOY_FAILED":
            raise RuntimeError("its replicas do not start: Ray's logs say why")
        if time.monotonic() > deadline:
            raise InvalidInput(f"Ray has started no replica within {START_S:g} s")
        time.sleep(0.1)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
