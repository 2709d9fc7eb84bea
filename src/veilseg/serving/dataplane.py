"""What the server answers, without HTTP: protocol messages in, protocol messages out."""

import logging
import time
from typing import Any, Final

import numpy as np

from veilseg import __version__
from veilseg.bundle import TensorSpec
from veilseg.serving.errors import InvalidRequest
from veilseg.serving.models import MAX_BATCH, ModelRepository, ServedModel
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

logger = logging.getLogger(__name__)

SERVER_NAME: Final = "veilseg"
# The network travels as ONNX; the protocol writes that as project_format.
PLATFORM: Final = "onnx_onnxv1"

# The longest way to write a float16 as decimal text, with its separator: 23 characters.
JSON_BYTES_PER_VALUE: Final = 24
# Names, shapes, parameters and the id of a request; a real head has some hundred bytes.
HEAD_BYTES: Final = 65536


class DataPlane:
    """Answers requests for a repository of models. Methods may be called from any thread.

    Parameters
    ----------
    models : ModelRepository
    """

    def __init__(self, models: ModelRepository) -> None:
        self._models = models

    @property
    def largest_request_bytes(self) -> int:
        """The largest decompressed body that can be a sound request to any of the models.

        A full batch as raw bytes or one tile as JSON numbers, whichever is longer.
        """
        return HEAD_BYTES + max(_largest_tensor_bytes(model) for model in self._models)

    def server_metadata(self) -> dict[str, Any]:
        """Name, version and protocol extensions of this server."""
        return documents.server_metadata(SERVER_NAME, __version__)

    def server_ready(self) -> bool:
        """Whether every model answers."""
        return self._models.ready

    def require_ready(self, name: str, version: str | None = None) -> None:
        """Raise :class:`UnknownModel` or :class:`ModelNotReady` unless the model answers."""
        self._models.get(name, version).require_ready()

    def model_metadata(self, name: str, version: str | None = None) -> dict[str, Any]:
        """Tensors, bundle id and precision of a model. Raises :class:`UnknownModel`."""
        model = self._models.get(name, version)
        manifest = model.manifest
        return documents.ModelMetadata(
            name=manifest.name,
            versions=(manifest.version,),
            platform=PLATFORM,
            inputs=(_batched(manifest.proxy),),
            outputs=(_batched(manifest.answer),),
            parameters={
                documents.BUNDLE_ID: manifest.bundle_id,
                documents.PRECISION: model.precision,
                documents.MAX_BATCH: MAX_BATCH,
            },
        ).to_json()

    def infer(
        self, name: str, version: str | None, body: bytes | bytearray, header_length: str | None
    ) -> Message:
        """Answer one inference request.

        Parameters
        ----------
        name, version : str
            As in the URL.
        body : bytes
            Decompressed.
        header_length : str, optional
            Length of the JSON part as the header states it.

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
        ModelError
            If the network computes nothing usable.
        """
        model = self._models.get(name, version)
        model.require_ready()
        request = decode_request(body, header_length)
        answer = model.manifest.answer.name
        binary = _binary_outputs(request, answer)
        tiles = _require_tiles(request, model.manifest.proxy)
        started = time.perf_counter()
        array = model.run(tiles)
        # Counts and durations only: what a request is about stays out of every log.
        seconds = time.perf_counter() - started
        logger.info("model %s: %d tile(s) in %.3f s", model.manifest.name, len(tiles), seconds)
        return encode_answer(
            InferAnswer(
                model_name=model.manifest.name,
                model_version=model.manifest.version,
                outputs=(Tensor(answer, array),),
                id=request.id,
                parameters={documents.BUNDLE_ID: model.manifest.bundle_id},
            ),
            binary=binary,
        )


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
