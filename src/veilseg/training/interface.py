"""What a scheme gives to be trained: one class per scheme, in ``schemes/*/training.py``."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn

from veilseg.datasets.cases import PreparedCase
from veilseg.payload import Float32Array

Arrays = dict[str, NDArray[Any]]


class MakesExamples(Protocol):
    """Whatever turns a case into what a network is trained on."""

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:
        """One example; arrays have trailing spatial axes. NumPy only: it runs beside the fit."""
        ...


class SchemeTraining(nn.Module, ABC):
    """Both halves of a scheme while they are fitted. ``forward`` gives the loss of a batch."""

    name: str

    @abstractmethod
    def example(self, case: PreparedCase, rng: Generator) -> Arrays:
        """Protect one (augmented) case as a site would; whole image, trailing axes spatial.

        Runs in a data-loading process, so it is NumPy only.
        """

    @abstractmethod
    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Loss of a batch of examples."""

    @abstractmethod
    def predict(self, batch: dict[str, Tensor]) -> Tensor:
        """What the site recovers: class probabilities (N, K, X, Y, Z)."""

    @property
    @abstractmethod
    def server_network(self) -> nn.Module:
        """Proxy (N, C, X, Y, Z) float32 to answer (N, K, X, Y, Z) float32."""

    @abstractmethod
    def write_client_files(self, folder: Path, tile_shape: tuple[int, ...]) -> None:
        """Write what the client half needs beside its manifest."""

    @abstractmethod
    def selftest_image(self, rng: Generator) -> Float32Array:
        """A proxy (C, X, Y, Z) of nobody, for the self-test: no patient travels in a bundle."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Scheme parameters for the client manifest."""


def one_hot(labels: NDArray[np.uint8], classes: int) -> Float32Array:
    """(X, Y, Z) integers to (K, X, Y, Z) float32."""
    values = np.arange(classes, dtype=np.uint8).reshape(-1, *[1] * labels.ndim)
    return np.asarray(labels[None] == values, dtype=np.float32)
