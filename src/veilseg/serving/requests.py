"""Requests for inference that are sound protocol, checked against the model they are for."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from veilseg.bundle import TensorSpec
from veilseg.serving.errors import InvalidRequest
from veilseg.serving.models import MAX_BATCH, ServedModel
from veilseg.wire import InferRequest, decode_request
from veilseg.wire.tensors import DTYPES, FloatArray, brief

# The longest way to write a float16 as decimal text, with its separator: 23 characters.
JSON_BYTES_PER_VALUE: Final = 24
# Names, shapes, parameters and the id of a request; a real head has some hundred bytes.
HEAD_BYTES: Final = 65536


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


def checked(
    model: ServedModel, body: bytes | bytearray, header_length: str | None, deadline_s: float
) -> Inference:
    """Read a request and check it against its model.

    Parameters
    ----------
    model : ServedModel
    body : bytes
        Decompressed.
    header_length : str, optional
        Length of the JSON part as the header states it.
    deadline_s : float
        Within which to compute it, unless the request wants it sooner.

    Raises
    ------
    WireError
        If the request breaks the protocol.
    InvalidRequest
        If its tensors are not the model's, too many, or not finite.
    """
    request = decode_request(body, header_length)
    binary = _binary_outputs(request, model.manifest.answer.name)
    tiles = _require_tiles(request, model.manifest.proxy)
    if request.timeout_us is not None:
        deadline_s = min(deadline_s, request.timeout_us / 1e6)
    return Inference(model, tiles, binary, request.id, deadline_s)


def largest_bytes(model: ServedModel) -> int:
    """The largest body that can be a sound request.

    A full batch as raw bytes or one tile as JSON numbers, whichever is longer.
    """
    proxy = model.manifest.proxy
    values = int(np.prod(model.tile_shape))
    return HEAD_BYTES + values * max(
        MAX_BATCH * DTYPES[proxy.datatype].itemsize, JSON_BYTES_PER_VALUE
    )


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
