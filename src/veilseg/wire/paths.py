"""The protocol's URL paths."""

from typing import Final
from urllib.parse import quote

SERVER: Final = "/v2"
LIVE: Final = "/v2/health/live"
READY: Final = "/v2/health/ready"
# The protocol's repository extension, by which models come and go.
INDEX: Final = "/v2/repository/index"
# Not of the protocol: where Prometheus looks.
METRICS: Final = "/metrics"


def model(name: str, version: str | None = None) -> str:
    """Path of a model's metadata; without a version the server chooses one."""
    path = f"/v2/models/{quote(name, safe='')}"
    return path if version is None else f"{path}/versions/{quote(version, safe='')}"


def model_ready(name: str, version: str | None = None) -> str:
    """Path that tells whether a model answers."""
    return f"{model(name, version)}/ready"


def model_infer(name: str, version: str | None = None) -> str:
    """Path that takes inference requests."""
    return f"{model(name, version)}/infer"
