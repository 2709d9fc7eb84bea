"""Ray Serve as its guide shows it: a deployment that reads a tile and answers, nothing else."""

import asyncio
import json
import os
import secrets
import signal
import threading

# Before Ray is imported, which reads them then: it tells nobody that it runs, and listens on
# loopback alone (the switch is named after the systems for which it was made).
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
# A token of its own, which is not left in the user's home.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
# A machine that is busy starts it slowly.
os.environ["RAY_raylet_start_wait_time_s"] = "120"  # noqa: SIM112 - Ray's own name

import numpy as np
import ray
from network import Network, options
from ray import serve
from ray.serve._private import replica
from starlette.requests import Request
from starlette.responses import Response

HEADER_LENGTH = "Inference-Header-Content-Length"


@serve.deployment(max_ongoing_requests=100)
class Served:
    """Takes the protocol's binary requests and checks none of it."""

    def __init__(self, model: str, precision: str, threads: int) -> None:
        # The port for other deployments, which Ray Serve opens on all interfaces after this.
        bind = replica.add_port_to_grpc_server
        replica.add_port_to_grpc_server = lambda server, _: bind(server, "127.0.0.1:0")
        self._network = Network(model, precision, threads)

    async def __call__(self, request: Request) -> Response:
        """One tile in, one answer out."""
        body = await request.body()
        tile = np.frombuffer(
            body,
            self._network.proxy.element_type.to_dtype(),
            offset=int(request.headers[HEADER_LENGTH]),
        )
        # As ours does: computed in the loop, no other body would be read meanwhile.
        whole = tile.reshape(tuple(self._network.proxy.shape))
        found = await asyncio.to_thread(self._network, whole)
        entry = {
            "name": "answer",
            "datatype": "FP16",
            "shape": list(found.shape),
            "parameters": {"binary_data_size": found.nbytes},
        }
        head = json.dumps({"model_name": "peer", "model_version": "1", "outputs": [entry]}).encode()
        return Response(head + found.tobytes(), headers={HEADER_LENGTH: str(len(head))})


def main() -> None:
    """Serve until SIGTERM."""
    told = options()
    ray.init(
        include_dashboard=False,
        num_cpus=told.replicas + 2,
        logging_level="error",
    )
    serve.start(http_options={"host": "127.0.0.1", "port": told.port})
    deployed = Served.options(num_replicas=told.replicas)  # type: ignore[attr-defined]
    serve.run(
        deployed.bind(told.model, told.precision, told.threads),
        route_prefix=f"/v2/models/{told.name}/infer",
    )
    print(f"listening on http://127.0.0.1:{told.port}", flush=True)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ended.wait()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
