"""What networks are trained on: arrays by name."""

from typing import Any, Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from veilseg.datasets.cases import PreparedCase
from veilseg.payload import Float32Array

Arrays = dict[str, NDArray[Any]]


class MakesExamples(Protocol):
    """Whatever turns a case into what a network is trained on."""

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:
        """One example; arrays have trailing spatial axes. NumPy only: it runs beside the fit."""
        ...


def one_hot(labels: NDArray[np.uint8], classes: int) -> Float32Array:
    """(X, Y, Z) integers to (K, X, Y, Z) float32."""
    values = np.arange(classes, dtype=np.uint8).reshape(-1, *[1] * labels.ndim)
    return np.asarray(labels[None] == values, dtype=np.float32)
