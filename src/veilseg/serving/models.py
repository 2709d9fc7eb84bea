"""The models a server hosts, each proven on its self-test tile before it answers anyone."""

import logging
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from veilseg.bundle import ServerBundle, ServerManifest, TensorSpec
from veilseg.errors import InvalidInput, VeilsegError
from veilseg.payload import Float32Array
from veilseg.serving.errors import ModelError, ModelNotReady, UnknownModel
from veilseg.serving.runtime import OpenVinoRuntime, Precision, Runtime
from veilseg.wire.tensors import DTYPES, FloatArray, brief

logger = logging.getLogger(__name__)

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

# Directory that holds the model in the bundle's Triton layout; clients written against a
# Triton server that hosts the same bundle ask for this version.
TRITON_VERSION: Final = "1"

RuntimeFactory = Callable[[Path, TensorSpec, TensorSpec, Precision], Runtime]


class ServedModel:
    """One bundle's server half, compiled and self-tested.

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
    ) -> None:
        self.manifest: ServerManifest = bundle.manifest
        self.failure: str | None = None
        self.precision = "none"
        self._runtime: Runtime | None = None
        try:
            proxy, answer = self.manifest.proxy, self.manifest.answer
            self._runtime = make_runtime(bundle.model_file, proxy, answer, precision)
            self.precision = self._runtime.precision
            self._test_itself(bundle.selftest_file)
        except VeilsegError as error:
            self.failure = str(error)
        # A runtime's own failures have no common type; this model is out, the others go on.
        except Exception as error:  # noqa: BLE001
            self.failure = f"could not be loaded ({type(error).__name__})"

    @property
    def tile_shape(self) -> tuple[int, ...]:
        """(C, X, Y, Z) of one proxy tile."""
        return self.manifest.proxy.shape[1:]

    def require_ready(self) -> None:
        """Raise :class:`ModelNotReady` if the model does not answer."""
        if self.failure is not None:
            # The reason may name files of this machine; it is for the operator's log.
            raise ModelNotReady(f"model {self.manifest.name} is not ready")

    def run(self, tiles: FloatArray) -> FloatArray:
        """Process tiles one after the other.

        Parameters
        ----------
        tiles : ndarray, shape (n, C, X, Y, Z), float16 or float32
            In the manifest's wire dtype, finite.

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
        name, answer = self.manifest.name, self.manifest.answer
        if self._runtime is None:
            raise ModelNotReady(f"model {name} is not loaded")
        try:
            answers = np.concatenate([self._runtime.run(tile[np.newaxis]) for tile in tiles])
        # A runtime's own failures have no common type, and its messages may quote data.
        except Exception as error:  # noqa: BLE001
            raise ModelError(f"model {name} failed ({type(error).__name__})") from None
        expected = (len(tiles), *answer.shape[1:]), DTYPES[answer.datatype]
        if (answers.shape, answers.dtype) != expected:
            raise ModelError(f"model {name} computed an answer of another shape or datatype")
        if not np.isfinite(answers).all():
            raise ModelError(f"model {name} computed an answer that is not finite")
        return answers

    def _test_itself(self, selftest: Path) -> None:
        proxy = _read_array(selftest, "proxy", self.manifest.proxy)
        expected = _read_array(selftest, "answer", self.manifest.answer)
        tile = proxy[np.newaxis].astype(DTYPES[self.manifest.proxy.datatype])
        found = self._run(tile)[0].astype(np.float32)
        wrong = _difference(found, expected)
        if wrong is not None:
            raise ModelNotReady(f"self-test: {wrong}")


class ModelRepository:
    """All models of a server, by name.

    Raises
    ------
    InvalidInput
        If there is none, or two have the same name.
    """

    def __init__(self, models: Iterable[ServedModel]) -> None:
        self._models: dict[str, ServedModel] = {}
        for model in models:
            self._add(model)
        if not self._models:
            raise InvalidInput("no bundle to serve")

    @classmethod
    def load(
        cls,
        bundles: Sequence[ServerBundle],
        precision: Precision = "auto",
        make_runtime: RuntimeFactory = OpenVinoRuntime,
    ) -> "ModelRepository":
        """Compile and self-test every bundle. One that fails is kept, not ready.

        Raises
        ------
        InvalidInput
            If there is no bundle, or two have the same name.
        """
        names = [bundle.manifest.name for bundle in bundles]
        for name in names:
            # Before minutes of compiling, not after.
            if names.count(name) > 1:
                raise InvalidInput(f"two bundles are named {name}: serve one of them")
        repository = cls(ServedModel(bundle, precision, make_runtime) for bundle in bundles)
        for model in repository:
            manifest = model.manifest
            logger.log(
                logging.INFO if model.failure is None else logging.ERROR,
                "model %s version %s bundle %s precision %s: %s",
                manifest.name,
                manifest.version,
                manifest.bundle_id,
                model.precision,
                model.failure or "ready",
            )
        return repository

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models.values())

    @property
    def ready(self) -> bool:
        """Whether every model answers, which is what the protocol calls a ready server."""
        return all(model.failure is None for model in self)

    def get(self, name: str, version: str | None = None) -> ServedModel:
        """The model of that name.

        Parameters
        ----------
        name : str
        version : str, optional
            The bundle's version, or "1" as a Triton server would call it.

        Raises
        ------
        UnknownModel
            If there is none, or not in that version.
        """
        model = self._models.get(name)
        if model is None:
            raise UnknownModel(f"unknown model {brief(name)}")
        if version not in (None, model.manifest.version, TRITON_VERSION):
            raise UnknownModel(f"unknown version {brief(version)} of model {brief(name)}")
        return model

    def _add(self, model: ServedModel) -> None:
        name = model.manifest.name
        if name in self._models:
            raise InvalidInput(f"two bundles are named {name}: serve one of them")
        self._models[name] = model


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
