"""What Ray is told before it is imported."""

from types import SimpleNamespace

import pytest

from veilseg.serving import ray_environment
from veilseg.serving.ray_environment import ALWAYS, CLUSTER, is_on_loopback, prepare


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    found: dict[str, str] = {}
    monkeypatch.setattr(ray_environment, "os", SimpleNamespace(environ=found))
    return found


def test_on_one_machine_it_keeps_to_itself(environment: dict[str, str]):
    prepare(joins=False)
    assert environment.items() >= {**ALWAYS, CLUSTER: "0", "RAY_AUTH_MODE": "token"}.items()
    assert is_on_loopback()
    first = environment["RAY_AUTH_TOKEN"]
    prepare(joins=False)
    assert len(first) == 64
    assert environment["RAY_AUTH_TOKEN"] != first


def test_who_joins_a_cluster_takes_its_token(environment: dict[str, str]):
    prepare(joins=True)
    assert environment == ALWAYS
    assert not is_on_loopback()
