"""A model, proven on its self-test tile before it answers anyone."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from veilseg.bundle import ServerBundle, ServerManifest, TensorSpec
from veilseg.errors import VeilsegError
from veilseg.payload import Float32Array
from veilseg.serving.errors import ModelError, ModelNotReady
from veilseg.serving.runtime import OpenVinoRuntime, Precision, Runtime, Sizing
from veilseg.wire.tensors import DTYPES, FloatArray

# Tiles one request may carry. They run one after the other, so that a batch saves round trips
# and not time: eight keeps any one request from holding up the queue for long.
MAX_BATCH: Final = 8

# bfloat16 has 8 bits of significand: one rounding is off by up to 2**-9 ≈ 0.002 of a value.
# The expected answer was computed in float32; this leaves room for the layers to add up ten
# such roundings on average, and none for wrong weights, which move probabilities by tenths.
SELFTEST_MEAN_TOLERANCE: Final = 0.02
# Rounding flips the winning class only where two classes tie, on thin borders between them:
# well under 2 % of a tile.
SELFTEST_CLASS_AGREEMENT: Final = 0.98
# Of an encoding's spread; values of other weights have nothing to do with it.
SELFTEST_SHARE: Final = 0.1

RuntimeFactory = Callable[[Path, TensorSpec, TensorSpec, Precision, Sizing], Runtime]


class ServedModel:
    """One bundle's server half, compiled and self-tested.

    Parameters
    ----------
    bundle : ServerBundle
    precision : {"bf16", "f32", "auto"}
    make_runtime : callable
    sizing : Sizing
        Tiles that go through the network at once, and batches side by side.

    Attributes
    ----------
    manifest : ServerManifest
    failure : str, optional
        Why the model does not answer; None if it does.
    precision : str
        Arithmetic inside the network; "none" if it could not be compiled.
    """

    def __init__(
        self,
        bundle: ServerBundle,
        precision: Precision = "auto",
        make_runtime: RuntimeFactory = OpenVinoRuntime,
        sizing: Sizing = Sizing(),  # noqa: B008 - frozen
    ) -> None:
        self.manifest: ServerManifest = bundle.manifest
        self.failure: str | None = None
        self.precision = "none"
        self.batch_size = sizing.batch_size
        self._runtime: Runtime | None = None
        try:
            proxy, answer = self.manifest.proxy, self.manifest.answer
            self._runtime = make_runtime(bundle.model_file, proxy, answer, precision, sizing)
            self.precision = self._runtime.precision
            self._test_itself(bundle.selftest_file)
        except VeilsegError as error:
            self.failure = str(error)
        # A runtime's own failures have no common type; this model is out, the others go on.
        except Exception as error:  # noqa: BLE001
            self.failure = f"could not be loaded ({type(error).__name__})"

    @property
    def name(self) -> str:
        """Name of the bundle, which is the model's on the wire."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """Version of the bundle."""
        return self.manifest.version

    @property
    def tile_shape(self) -> tuple[int, ...]:
        """(C, X, Y, Z) of one proxy tile."""
        return self.manifest.proxy.shape[1:]

    @property
    def streams(self) -> int:
        """Batches that may go through the network at a time."""
        return 1 if self._runtime is None else self._runtime.streams

    def close(self) -> None:
        """Give back what the network took; nothing is asked of it any more."""
        if self._runtime is not None:
            self._runtime.close()

    def require_ready(self) -> None:
        """Raise :class:`ModelNotReady` if the model does not answer."""
        if self.failure is not None:
            # The reason may name files of this machine; it is for the operator's log.
            raise ModelNotReady(f"model {self.name} is not ready")

    def answers(self, tiles: FloatArray) -> list[FloatArray | ModelError]:
        """Process up to ``batch_size`` tiles at once, perhaps of several sites.

        Parameters
        ----------
        tiles : ndarray, shape (n, C, X, Y, Z), float16 or float32
            In the manifest's wire dtype, finite.

        Returns
        -------
        list of (ndarray, shape (K, X, Y, Z)) or ModelError
            One for each tile: a tile that the network cannot answer spoils no other's answer.
        """
        try:
            found = self._computed(tiles)
        except ModelError as error:
            if len(tiles) == 1:
                return [error]
            return [answer for tile in tiles for answer in self.answers(tile[np.newaxis])]
        return [
            answer
            if np.isfinite(answer).all()
            else ModelError(f"model {self.name} computed an answer that is not finite")
            for answer in found
        ]

    def run(self, tiles: FloatArray) -> FloatArray:
        """Process any number of tiles.

        Returns
        -------
        ndarray, shape (n, K, X, Y, Z), float16 or float32

        Raises
        ------
        ModelNotReady
            If the model failed its self-test.
        ModelError
            If it computes something that is not finite or of another shape.
        """
        self.require_ready()
        return self._run(tiles)

    def _run(self, tiles: FloatArray) -> FloatArray:
        answers: list[FloatArray] = []
        for start in range(0, len(tiles), self.batch_size):
            for answer in self.answers(tiles[start : start + self.batch_size]):
                if isinstance(answer, ModelError):
                    raise answer
                answers.append(answer)
        return np.stack(answers)

    def _computed(self, tiles: FloatArray) -> FloatArray:
        if self._runtime is None:
            raise ModelNotReady(f"model {self.name} is not loaded")
        answer = self.manifest.answer
        batch = np.zeros((self.batch_size, *tiles.shape[1:]), tiles.dtype)
        batch[: len(tiles)] = tiles
        try:
            found = self._runtime.run(batch)
        # A runtime's own failures have no common type, and its messages may quote data.
        except Exception as error:  # noqa: BLE001
            raise ModelError(f"model {self.name} failed ({type(error).__name__})") from None
        expected = (self.batch_size, *answer.shape[1:]), DTYPES[answer.datatype]
        if (found.shape, found.dtype) != expected:
            raise ModelError(f"model {self.name} computed an answer of another shape or datatype")
        return found[: len(tiles)]

    def _test_itself(self, selftest: Path) -> None:
        proxy = _read_array(selftest, "proxy", self.manifest.proxy)
        expected = _read_array(selftest, "answer", self.manifest.answer)
        tile = proxy[np.newaxis].astype(DTYPES[self.manifest.proxy.datatype])
        alone = self._run(tile)
        wrong = _difference(alone[0].astype(np.float32), expected)
        if wrong is not None:
            raise ModelNotReady(f"self-test: {wrong}")
        # An answer that changed with its neighbours would carry something of them to another site.
        for place in range(self.batch_size if self.batch_size > 1 else 0):
            others = np.repeat(tile[:, ..., ::-1], self.batch_size, axis=0)
            others[place] = tile[0]
            if self._run(others)[place].tobytes() != alone[0].tobytes():
                raise ModelNotReady("self-test: an answer depends on the others of its batch")


def _difference(found: Float32Array, expected: Float32Array) -> str | None:
    """How an answer differs from what it should be, if it does so by more than rounding."""
    if found.ndim == 1:  # an encoding, which has no classes
        error = float(np.linalg.norm(found - expected))
        share = error / max(float(np.linalg.norm(expected - expected.mean())), 1e-6)
        if share <= SELFTEST_SHARE:
            return None
        return f"the answer differs by {share:.1%} of its spread (at most {SELFTEST_SHARE:.0%})"
    difference = float(np.abs(found - expected).mean())
    agreement = float((found.argmax(axis=0) == expected.argmax(axis=0)).mean())
    if difference <= SELFTEST_MEAN_TOLERANCE and agreement >= SELFTEST_CLASS_AGREEMENT:
        return None
    return (
        f"the answer differs by {difference:.4f} on average (at most {SELFTEST_MEAN_TOLERANCE}) and"
        f" agrees on the class of {agreement:.1%} of the voxels (at least"
        f" {SELFTEST_CLASS_AGREEMENT:.0%})"
    )


def _read_array(selftest: Path, name: str, spec: TensorSpec) -> Float32Array:
    try:
        with np.load(selftest, allow_pickle=False) as arrays:
            array: Float32Array = arrays[name].astype(np.float32)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ModelNotReady(f"self-test: no array {name} ({type(error).__name__})") from error
    if array.shape != spec.shape[1:]:
        raise ModelNotReady(f"self-test: array {name} has not the shape {list(spec.shape[1:])}")
    return array
