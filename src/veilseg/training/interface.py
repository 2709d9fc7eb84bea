"""What a scheme gives to be trained: one class per scheme, in ``schemes/*/training.py``."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.random import Generator
from torch import Tensor, nn

from veilseg.datasets.cases import PreparedCase
from veilseg.payload import Float32Array
from veilseg.training.batches import Examples
from veilseg.training.crops import cropped
from veilseg.training.examples import Arrays
from veilseg.training.loader import Batch
from veilseg.training.run import Run
from veilseg.training.stage import Stage

Progress = Callable[[int, int], None]


def no_progress(done: int, total: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class PartsFirst:
    """What a stage does to its batches: large tiles are cut but for the last steps."""

    run: Run

    def __call__(self, batch: Batch, step: int, *, steps: int, rank: int) -> Batch:  # noqa: ARG002 - parts are alike in all processes
        whole = step >= self.run.recipe.cropped_share * steps
        return batch if whole else cropped(batch, self.run.tile_shape, step, self.run.seed)


class SchemeTraining(nn.Module, ABC):
    """Both halves of a scheme while they are fitted.

    ``forward`` gives the loss of a batch, unless the stages of a scheme have losses of their own.
    """

    name: str
    # What else defines a run: a key, a control.
    variant: str = ""
    # Networks that no bundle holds: a training that starts from one has them anew.
    unshipped: frozenset[str] = frozenset()

    def stages(
        self,
        cases: Sequence[PreparedCase],
        run: Run,
        spacing: Sequence[float] | None,
        progress: Progress = no_progress,  # noqa: ARG002 - one interface
    ) -> Iterator[Stage]:
        """What is fitted, one after the other: here both halves at once, end to end.

        Parameters
        ----------
        cases : sequence of PreparedCase
            Training cases.
        run : Run
        spacing : sequence of float or None
            Of the cases' voxels; None: as wide along every axis.
        progress : callable
            Called with (done, total) while a stage's examples are made.
        """
        tile = run.tile_shape
        examples = Examples(self, cases, tile, run.steps * run.batch, run.seed, spacing=spacing)
        size = len(tile), run.steps, run.batch
        rate = run.recipe.learning_rate
        yield Stage("", self, examples, *size, rate, PartsFirst(run))

    @abstractmethod
    def example(self, case: PreparedCase, rng: Generator) -> Arrays:
        """Protect one (augmented) case as a site would; whole image, trailing axes spatial.

        Runs in a data-loading process, so it is NumPy only.
        """

    @abstractmethod
    def predict(self, batch: dict[str, Tensor]) -> Tensor:
        """What the site recovers: class probabilities (N, K, X, Y, Z)."""

    @property
    @abstractmethod
    def server_network(self) -> nn.Module:
        """Proxy (N, C, X, Y, Z) float32 to answer (N, K, X, Y, Z) float32."""

    def wire_shapes(
        self, channels: int, classes: int, tile_shape: tuple[int, ...]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of a tile's proxy and answer: here maps on the tile."""
        return (channels, *tile_shape), (classes, *tile_shape)

    @abstractmethod
    def write_client_files(self, folder: Path, tile_shape: tuple[int, ...]) -> None:
        """Write what the client half needs beside its manifest."""

    @abstractmethod
    def selftest_image(self, rng: Generator) -> Float32Array:
        """A proxy (C, X, Y, Z) of nobody, for the self-test: no patient travels in a bundle."""

    def fitting(self) -> dict[str, Any] | None:
        """What a provider has to know to fit the server network anew; None: it cannot."""
        return None

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Scheme parameters for the client manifest."""
