"""Models whose network is a fake, so that its failures can be chosen."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from veilseg.bundle import TensorSpec, open_server_half
from veilseg.serving.models import ServedModel
from veilseg.serving.runtime import Sizing


class FakeRuntime:
    """Computes what the tiny network computes, then what ``behaviour`` makes of it."""

    precision = "f32"
    streams = 1

    def __init__(self) -> None:
        self.closed = False
        self.behaviour: Callable[[np.ndarray], np.ndarray] = lambda answer: answer

    def __call__(
        self,
        model_file: Path,
        proxy: TensorSpec,
        answer: TensorSpec,
        precision: str,
        sizing: Sizing | None = None,
    ):
        return self

    def close(self) -> None:
        self.closed = True

    def run(self, tile: np.ndarray) -> np.ndarray:
        return self.behaviour(np.concatenate([1 - tile, tile], axis=1))


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime()


@pytest.fixture
def model(make_bundle: Callable[..., Path], runtime: FakeRuntime) -> ServedModel:
    """A ready model on the fake runtime."""
    model = ServedModel(open_server_half(make_bundle()), "f32", runtime)
    assert model.failure is None
    return model
