"""What Ray has to be told before it is imported."""

import os
import secrets
from typing import Final

# Ray's switch between loopback and the machine's outward address, under the name of the systems for
# which it was made; ``_node_ip_address="127.0.0.1"`` is taken for a mistake and turned outward.
CLUSTER: Final = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
OFF: Final = "0"
# Nobody is told that it runs; what it has to say is in its own log files. On a busy machine it
# takes longer to start than it would wait for itself.
ALWAYS: Final = {
    "RAY_USAGE_STATS_ENABLED": OFF,
    "RAY_SERVE_LOG_TO_STDERR": OFF,
    "RAY_raylet_start_wait_time_s": "120",
}


def prepare(*, joins: bool) -> None:
    """Keep Ray quiet; and, unless it joins other machines, on loopback with a token of its own.

    Its processes hand the token to each other by their environment, so that none is left in the
    user's home. Who joins a cluster has that cluster's.
    """
    os.environ.update(ALWAYS)
    if not joins:
        token = secrets.token_hex(32)
        os.environ.update({CLUSTER: OFF, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token})


def is_on_loopback() -> bool:
    """Whether this process is one of a Ray that keeps to this machine."""
    return os.environ.get(CLUSTER) == OFF
