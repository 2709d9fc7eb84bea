"""What the server answers, without HTTP: protocol messages in, protocol messages out."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from veilseg import __version__
from veilseg.access.audit_log import AuditLog
from veilseg.bundle import TensorSpec
from veilseg.serving.admission import Places
from veilseg.serving.batching import Batcher, Job
from veilseg.serving.errors import Draining, InvalidRequest, NotLoaded
from veilseg.serving.metrics import Metrics
from veilseg.serving.models import MAX_BATCH, ServedModel
from veilseg.serving.repository import ModelRepository
from veilseg.serving.settings import Settings
from veilseg.serving.store import ModelStore
from veilseg.serving.visitors import ANONYMOUS, Visitor
from veilseg.wire import (
    InferAnswer,
    InferRequest,
    Message,
    Tensor,
    decode_request,
    documents,
    encode_answer,
)
from veilseg.wire.tensors import DTYPES, FloatArray, brief

SERVER_NAME: Final = "veilseg"
# The network travels as ONNX; the protocol writes that as project_format.
PLATFORM: Final = "onnx_onnxv1"

# The longest way to write a float16 as decimal text, with its separator: 23 characters.
JSON_BYTES_PER_VALUE: Final = 24
# Names, shapes, parameters and the id of a request; a real head has some hundred bytes.
HEAD_BYTES: Final = 65536
# What a client is asked to wait at most before it asks again.
LONGEST_WAIT_S: Final = 30.0


@dataclass(frozen=True)
class Inference:
    """A request that was found sound.

    Attributes
    ----------
    model : ServedModel
    tiles : ndarray, shape (n, C, X, Y, Z), float16 or float32
    binary : set of str
        Outputs that were asked for as raw bytes.
    id : str, optional
    deadline_s : float
        Within which it has to be computed.
    """

    model: ServedModel
    tiles: FloatArray
    binary: set[str]
    id: str | None
    deadline_s: float


@dataclass(frozen=True)
class _Lane:
    """What one model's requests go through."""

    places: Places
    batcher: Batcher


class DataPlane:
    """Answers requests for a repository of models. Methods may be called from any thread.

    A request takes a :meth:`place`, is read, :meth:`prepare`\\ d, :meth:`begin`\\ s to be
    computed, and is :meth:`finish`\\ ed. :meth:`infer` does all of it.

    Parameters
    ----------
    models : ModelRepository
    settings : Settings
    audit_log : AuditLog, optional
        What every accepted request and every change of the models is written to.
    store : ModelStore, optional
        Where models come from that are loaded while the server runs.
    """

    def __init__(
        self,
        models: ModelRepository,
        settings: Settings | None = None,
        audit_log: AuditLog | None = None,
        store: ModelStore | None = None,
    ) -> None:
        self._models = models
        self._settings = settings or Settings()
        self._audit_log = audit_log
        self._store = store
        self._lanes: dict[ServedModel, _Lane] = {}
        self._lanes_changing = threading.Lock()
        self._draining = False
        self.metrics = Metrics(self._now)

    @property
    def largest_request_bytes(self) -> int:
        """The largest decompressed body that can be a sound request to any of the models.

        A full batch as raw bytes or one tile as JSON numbers, whichever is longer.
        """
        largest = max((_largest_tensor_bytes(model) for model in self._models), default=0)
        return self._settings.max_body_bytes or HEAD_BYTES + largest

    @property
    def running(self) -> int:
        """Requests that are read, wait or run."""
        return sum(len(lane.places) for lane in list(self._lanes.values()))

    def drain(self) -> None:
        """Take nothing more; what runs goes on."""
        self._draining = True

    def close(self) -> None:
        """Compute what waits and end the threads."""
        self._retire(list(self._lanes))

    def server_metadata(self) -> dict[str, Any]:
        """Name, version and protocol extensions of this server."""
        return documents.server_metadata(SERVER_NAME, __version__)

    def server_ready(self) -> bool:
        """Whether every model answers, and goes on to."""
        return self._models.ready and not self._draining

    def require_ready(self, name: str, version: str | None = None) -> None:
        """Raise :class:`UnknownModel` or :class:`ModelNotReady` unless the model answers."""
        self._models.get(name, version).require_ready()

    def model_metadata(self, name: str, version: str | None = None) -> dict[str, Any]:
        """Tensors, bundle id and precision of a model. Raises :class:`UnknownModel`."""
        model = self._models.get(name, version)
        manifest = model.manifest
        return documents.ModelMetadata(
            name=manifest.name,
            versions=self._models.versions(name),
            platform=PLATFORM,
            inputs=(_batched(manifest.proxy),),
            outputs=(_batched(manifest.answer),),
            parameters={
                documents.BUNDLE_ID: manifest.bundle_id,
                documents.PRECISION: model.precision,
                documents.MAX_BATCH: MAX_BATCH,
            },
        ).to_json()

    def index(self) -> list[dict[str, Any]]:
        """What is hosted and what could be. Raises :class:`NotLoaded` without a store."""
        return self._require_store().index()

    def load(self, name: str, visitor: Visitor) -> None:
        """Host what is on disk of a model; raises as :meth:`ModelStore.load`."""
        store = self._require_store()
        self._record("load", visitor, model=name)
        self._retire(store.load(name))

    def unload(self, name: str, visitor: Visitor) -> None:
        """Stop hosting a model, after what runs; raises as :meth:`ModelStore.unload`."""
        store = self._require_store()
        self._record("unload", visitor, model=name)
        self._retire(store.unload(name))

    @contextlib.contextmanager
    def place(self, name: str, version: str | None, site: str) -> Iterator[None]:
        """Let a request in, before its body is read.

        Raises
        ------
        UnknownModel
            If there is no such model.
        ModelNotReady
            If it failed its self-test.
        Draining
            If the server is about to end.
        TooManyWaiting
            If the model's places are taken.
        """
        model = self._models.get(name, version)
        model.require_ready()
        if self._draining:
            raise Draining("this server is about to end")
        lane = self._lane(model)
        wait_s = min(LONGEST_WAIT_S, max(1.0, lane.batcher.seconds_behind))
        with lane.places.place(site, wait_s):
            yield

    def prepare(
        self,
        name: str,
        version: str | None,
        body: bytes | bytearray,
        header_length: str | None,
        visitor: Visitor = ANONYMOUS,
    ) -> Inference:
        """Check a request and write down that it came.

        Parameters
        ----------
        name, version : str
            As in the URL.
        body : bytes
            Decompressed.
        header_length : str, optional
            Length of the JSON part as the header states it.
        visitor : Visitor

        Raises
        ------
        UnknownModel
            If there is no such model.
        ModelNotReady
            If it failed its self-test.
        WireError
            If the request breaks the protocol.
        InvalidRequest
            If its tensors are not the model's, too many, or not finite.
        AuditLogFailed
            If it cannot be written down: then it is not computed either.
        """
        model = self._models.get(name, version)
        model.require_ready()
        request = decode_request(body, header_length)
        binary = _binary_outputs(request, model.manifest.answer.name)
        tiles = _require_tiles(request, model.manifest.proxy)
        deadline_s = self._settings.deadline_s
        if request.timeout_us is not None:
            deadline_s = min(deadline_s, request.timeout_us / 1e6)
        self._record(
            *("infer", visitor),
            model=model.name,
            version=model.version,
            bundle=model.manifest.bundle_id,
            tiles=len(tiles),
            bytes=len(body),
        )
        self.metrics.accepted(model.name, model.version, visitor.site, len(tiles), len(body))
        return Inference(model, tiles, binary, request.id, deadline_s)

    def begin(self, inference: Inference, site: str) -> Job:
        """Let the tiles wait for their turn. Raises :class:`ModelNotReady` if unloaded."""
        lane = self._lane(inference.model)
        return lane.batcher.submit(inference.tiles, site, inference.deadline_s)

    def finish(self, inference: Inference, answers: FloatArray) -> Message:
        """The protocol's message of what was computed."""
        manifest = inference.model.manifest
        return encode_answer(
            InferAnswer(
                model_name=manifest.name,
                model_version=manifest.version,
                outputs=(Tensor(manifest.answer.name, answers),),
                id=inference.id,
                parameters={documents.BUNDLE_ID: manifest.bundle_id},
            ),
            binary=inference.binary,
        )

    def infer(
        self,
        name: str,
        version: str | None,
        body: bytes | bytearray,
        header_length: str | None,
        visitor: Visitor = ANONYMOUS,
    ) -> Message:
        """Answer one inference request, from the first step to the last.

        Raises as :meth:`place`, :meth:`prepare` and :meth:`begin`, and :class:`ModelError` if the
        network computes nothing usable.
        """
        with self.place(name, version, visitor.site):
            inference = self.prepare(name, version, body, header_length, visitor)
            answers = self.begin(inference, visitor.site).answers.result()
        return self.finish(inference, answers)

    def _lane(self, model: ServedModel) -> _Lane:
        with self._lanes_changing:
            if model not in self._lanes:
                settings = self._settings
                self._lanes[model] = _Lane(
                    Places(settings.queue_places, settings.queue_places_per_site),
                    Batcher(
                        model.answers,
                        model.batch_size,
                        settings.batch_wait_s,
                        self.metrics.of_model(model.name, model.version),
                    ),
                )
            return self._lanes[model]

    def _retire(self, models: list[ServedModel]) -> None:
        for model in models:
            with self._lanes_changing:
                lane = self._lanes.pop(model, None)
            if lane is not None:
                lane.batcher.close()

    def _require_store(self) -> ModelStore:
        if self._store is None:
            raise NotLoaded("this server's models do not change")
        return self._store

    def _record(self, action: str, visitor: Visitor, **fields: str | int) -> None:
        if self._audit_log is not None:
            self._audit_log.append(
                action=action, site=visitor.site, token_id=visitor.token_id, **fields
            )

    def _now(self) -> list[tuple[str, str, int, int, bool]]:
        rows = []
        for model in self._models:
            lane = self._lanes.get(model)
            waiting, inside = (len(lane.batcher), len(lane.places)) if lane else (0, 0)
            rows.append((model.name, model.version, waiting, inside, model.failure is None))
        return rows


def _largest_tensor_bytes(model: ServedModel) -> int:
    proxy = model.manifest.proxy
    values = int(np.prod(model.tile_shape))
    return values * max(MAX_BATCH * DTYPES[proxy.datatype].itemsize, JSON_BYTES_PER_VALUE)


def _batched(spec: TensorSpec) -> TensorSpec:
    # The batch axis is the only one a request may choose.
    return TensorSpec(spec.name, spec.datatype, (-1, *spec.shape[1:]))


def _binary_outputs(request: InferRequest, answer: str) -> set[str]:
    for output in request.outputs:
        if output.name != answer:
            raise InvalidRequest(f"outputs: {brief(output.name)} is unknown; there is {answer}")
    asked = {output.name: output.binary for output in request.outputs}
    return {answer} if asked.get(answer, request.binary_outputs) else set()


def _require_tiles(request: InferRequest, proxy: TensorSpec) -> FloatArray:
    names = [tensor.name for tensor in request.inputs]
    if names != [proxy.name]:
        listed = ", ".join(map(brief, names[:4]))
        raise InvalidRequest(f"inputs: expected {proxy.name} alone, got {listed}")
    tensor = request.inputs[0]
    if tensor.datatype != proxy.datatype:
        raise InvalidRequest(
            f"input {proxy.name}: datatype {tensor.datatype} is not {proxy.datatype}"
        )
    shape = tensor.array.shape
    if shape[1:] != proxy.shape[1:] or not 1 <= shape[0] <= MAX_BATCH:
        raise InvalidRequest(
            f"input {proxy.name}: shape {list(shape)} is not [n, {str(proxy.shape[1:])[1:-1]}]"
            f" with n from 1 to {MAX_BATCH}"
        )
    if not np.isfinite(tensor.array).all():
        raise InvalidRequest(f"input {proxy.name}: holds NaN or infinity")
    return tensor.array
