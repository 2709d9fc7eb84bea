"""What the server answers, without HTTP: protocol messages in, protocol messages out."""

import contextlib
from collections.abc import Iterator
from typing import Any, Final

from veilseg import __version__
from veilseg.access.audit_log import AuditLog
from veilseg.bundle import TensorSpec
from veilseg.serving.batching import Job
from veilseg.serving.errors import Draining, ModelNotReady, NotLoaded
from veilseg.serving.lanes import Lane, Lanes
from veilseg.serving.metrics import Metrics
from veilseg.serving.models import MAX_BATCH
from veilseg.serving.repository import ModelRepository
from veilseg.serving.requests import HEAD_BYTES, Inference, checked, largest_bytes
from veilseg.serving.settings import Settings
from veilseg.serving.store import ModelStore
from veilseg.serving.visitors import ANONYMOUS, Visitor
from veilseg.wire import InferAnswer, Message, Tensor, documents, encode_answer
from veilseg.wire.tensors import FloatArray

SERVER_NAME: Final = "veilseg"
# The network travels as ONNX; the protocol writes that as project_format.
PLATFORM: Final = "onnx_onnxv1"
# What a client is asked to wait at most before it asks again.
LONGEST_WAIT_S: Final = 30.0


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
        self._draining = False
        self.metrics = Metrics(self._now)
        self._lanes = Lanes(self._settings, self.metrics)

    @property
    def largest_request_bytes(self) -> int:
        """The largest decompressed body that can be a sound request to any of the models."""
        largest = max((largest_bytes(model) for model in self._models), default=HEAD_BYTES)
        return self._settings.max_body_bytes or largest

    @property
    def running(self) -> int:
        """Requests that are read, wait or run."""
        return self._lanes.running

    def drain(self) -> None:
        """Take nothing more; what runs goes on."""
        self._draining = True

    def close(self) -> None:
        """Compute what waits and end the threads."""
        self._lanes.retire()

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
        store.require_known(name)  # a log holds names of models, not whatever was sent
        self._record("load", visitor, model=name)
        self._lanes.retire(store.load(name))

    def unload(self, name: str, visitor: Visitor) -> None:
        """Stop hosting a model, after what runs; raises as :meth:`ModelStore.unload`."""
        store = self._require_store()
        store.require_known(name)
        self._record("unload", visitor, model=name)
        self._lanes.retire(store.unload(name))

    @contextlib.contextmanager
    def place(self, name: str, version: str | None, site: str) -> Iterator[Lane]:
        """Let a request in, before its body is read; it stays with the model it found.

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
        if self._draining:
            raise Draining("this server is about to end")
        lane = self._lane(name, version)
        wait_s = min(LONGEST_WAIT_S, max(1.0, lane.batcher.seconds_behind))
        with lane.places.place(site, wait_s):
            yield lane

    def _lane(self, name: str, version: str | None) -> Lane:
        model = self._models.get(name, version)
        model.require_ready()
        try:
            return self._lanes.of(model)
        except ModelNotReady:
            # Replaced in this very moment: what took its place answers.
            newer = self._models.get(name, version)
            if newer is model:
                raise
            return self._lanes.of(newer)

    def prepare(
        self,
        lane: Lane,
        body: bytes | bytearray,
        header_length: str | None,
        visitor: Visitor = ANONYMOUS,
    ) -> Inference:
        """Check a request and write down that it came.

        Parameters
        ----------
        lane : Lane
            As :meth:`place` gave it.
        body : bytes
            Decompressed.
        header_length : str, optional
            Length of the JSON part as the header states it.
        visitor : Visitor

        Raises
        ------
        WireError
            If the request breaks the protocol.
        InvalidRequest
            If its tensors are not the model's, too many, or not finite.
        AuditLogFailed
            If it cannot be written down: then it is not computed either.
        """
        model = lane.model
        inference = checked(model, body, header_length, self._settings.deadline_s)
        self._record(
            *("infer", visitor),
            model=model.name,
            version=model.version,
            bundle=model.manifest.bundle_id,
            tiles=len(inference.tiles),
            bytes=len(body),
        )
        self.metrics.accepted(
            *(model.name, model.version, visitor.site), len(inference.tiles), len(body)
        )
        return inference

    def begin(self, lane: Lane, inference: Inference, site: str) -> Job:
        """Let the tiles wait for their turn. Raises :class:`ModelNotReady` if unloaded."""
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
        with self.place(name, version, visitor.site) as lane:
            inference = self.prepare(lane, body, header_length, visitor)
            answers = self.begin(lane, inference, visitor.site).answers.result()
        return self.finish(inference, answers)

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
            load = self._lanes.load_of(model)
            rows.append((model.name, model.version, *load, model.failure is None))
        return rows


def _batched(spec: TensorSpec) -> TensorSpec:
    # The batch axis is the only one a request may choose.
    return TensorSpec(spec.name, spec.datatype, (-1, *spec.shape[1:]))
