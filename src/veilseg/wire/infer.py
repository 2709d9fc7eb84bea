"""Inference requests and answers, to bytes and back.

A message is one JSON object, followed without a gap by the raw bytes of its binary tensors
in the order the JSON lists them. Where raw bytes follow, the length of the JSON travels in
the HTTP header :data:`HEADER_LENGTH`.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from veilseg.wire.errors import WireError
from veilseg.wire.tensors import (
    Tensor,
    brief,
    from_bytes,
    from_json,
    read_declaration,
    read_name,
    read_parameters,
)

HEADER_LENGTH: Final = "Inference-Header-Content-Length"
BINARY_MEDIA_TYPE: Final = "application/octet-stream"
JSON_MEDIA_TYPE: Final = "application/json"
# What fits the protocol's own unsigned 64 bits; larger numbers do not fit a float either.
LONGEST_TIMEOUT_US: Final = 2**64 - 1


@dataclass(frozen=True)
class Message:
    """A body and how long its JSON part is; None if it is JSON throughout."""

    body: bytes
    header_length: int | None

    @property
    def headers(self) -> dict[str, str]:
        """The HTTP headers that describe the body."""
        if self.header_length is None:
            return {"Content-Type": JSON_MEDIA_TYPE}
        return {"Content-Type": BINARY_MEDIA_TYPE, HEADER_LENGTH: str(self.header_length)}


@dataclass(frozen=True)
class RequestedOutput:
    """An output asked for by name, as raw bytes or as JSON numbers."""

    name: str
    binary: bool


@dataclass(frozen=True)
class InferRequest:
    """What is asked of a model.

    Attributes
    ----------
    inputs : tuple of Tensor
    outputs : tuple of RequestedOutput
        Empty for all outputs of the model.
    binary_outputs : bool
        Whether outputs that are not listed come as raw bytes.
    id : str, optional
        Given back with the answer.
    timeout_us : int, optional
        Microseconds after which nobody waits for the answer any more.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[RequestedOutput, ...] = ()
    binary_outputs: bool = False
    id: str | None = None
    timeout_us: int | None = None


@dataclass(frozen=True)
class InferAnswer:
    """What a model answered. ``parameters`` are the server's own remarks."""

    model_name: str
    model_version: str
    outputs: tuple[Tensor, ...]
    id: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)


def encode_request(request: InferRequest) -> Message:
    """A request with its inputs as raw bytes.

    Raises
    ------
    WireError
        If an input has no datatype of the protocol.
    """
    head: dict[str, Any] = {} if request.id is None else {"id": request.id}
    head["inputs"] = [_entry(tensor, binary=True) for tensor in request.inputs]
    if request.outputs:
        head["outputs"] = [
            {"name": output.name, "parameters": {"binary_data": output.binary}}
            for output in request.outputs
        ]
    parameters: dict[str, Any] = {"binary_data_output": True} if request.binary_outputs else {}
    if request.timeout_us is not None:
        parameters["timeout"] = request.timeout_us
    if parameters:
        head["parameters"] = parameters
    return _message(head, request.inputs)


def decode_request(body: bytes | bytearray, header_length: str | None) -> InferRequest:
    """Read a request, binary or JSON.

    Parameters
    ----------
    body : bytes
        Decompressed.
    header_length : str, optional
        The header :data:`HEADER_LENGTH` as received.

    Raises
    ------
    WireError
        If anything in it breaks the protocol.
    """
    head, raw = _parts(body, header_length)
    inputs = _tensors(head, "inputs", raw)
    parameters = read_parameters(head)
    binary_outputs = _flag(parameters, "binary_data_output", default=False)
    entries = head.get("outputs", [])
    if not isinstance(entries, list):
        raise WireError("outputs is not a list")
    outputs = tuple(_requested(entry, binary_outputs) for entry in entries)
    _require_distinct("outputs", [output.name for output in outputs])
    return InferRequest(inputs, outputs, binary_outputs, _id(head), _timeout_us(parameters))


def encode_answer(answer: InferAnswer, binary: Collection[str]) -> Message:
    """An answer with the outputs named in ``binary`` as raw bytes, the others as JSON.

    Raises
    ------
    WireError
        If an output has no datatype of the protocol, or JSON cannot hold it (NaN, infinity).
    """
    head: dict[str, Any] = {} if answer.id is None else {"id": answer.id}
    head |= {"model_name": answer.model_name, "model_version": answer.model_version}
    if answer.parameters:
        head["parameters"] = answer.parameters
    head["outputs"] = [_entry(tensor, tensor.name in binary) for tensor in answer.outputs]
    return _message(head, [tensor for tensor in answer.outputs if tensor.name in binary])


def decode_answer(body: bytes | bytearray, header_length: str | None) -> InferAnswer:
    """Read an answer, binary or JSON.

    Raises
    ------
    WireError
        If anything in it breaks the protocol.
    """
    head, raw = _parts(body, header_length)
    name, version = head.get("model_name"), head.get("model_version", "")
    if not isinstance(name, str) or not isinstance(version, str):
        raise WireError("model_name or model_version is no text")
    outputs = _tensors(head, "outputs", raw)
    return InferAnswer(name, version, outputs, _id(head), read_parameters(head))


def _entry(tensor: Tensor, binary: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": list(tensor.array.shape),
    }
    if binary:
        entry["parameters"] = {"binary_data_size": tensor.array.nbytes}
    else:
        entry["data"] = tensor.array.ravel().tolist()
    return entry


def _message(head: dict[str, Any], binary: Sequence[Tensor]) -> Message:
    try:
        text = json.dumps(head, allow_nan=False, separators=(",", ":")).encode()
    except ValueError as error:
        raise WireError("JSON holds no NaN or infinity: ask for binary data") from error
    if not binary:
        return Message(text, None)
    return Message(b"".join([text, *(tensor.raw() for tensor in binary)]), len(text))


def _parts(body: bytes | bytearray, header_length: str | None) -> tuple[dict[str, Any], memoryview]:
    length = len(body)
    if header_length is not None:
        # isdigit alone accepts other scripts' digits; int alone accepts signs and underscores.
        digits = header_length.isascii() and header_length.isdigit() and len(header_length) < 19
        if not digits:
            raise WireError(f"{HEADER_LENGTH} is no length")
        length = int(header_length)
        if length > len(body):
            raise WireError(f"{HEADER_LENGTH} {length} is beyond the body of {len(body)} bytes")
    try:
        head = json.loads(body[:length], parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        # The parser's message may quote the body; only its kind is passed on.
        raise WireError(f"the first {length} bytes are not JSON ({type(error).__name__})") from None
    if not isinstance(head, dict):
        raise WireError("the JSON part is not an object")
    return head, memoryview(body)[length:]


def _no_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _tensors(head: dict[str, Any], key: str, raw: memoryview) -> tuple[Tensor, ...]:
    entries = head.get(key)
    if not isinstance(entries, list) or not entries:
        raise WireError(f"{key} is missing or empty")
    declarations = [read_declaration(entry) for entry in entries]
    _require_distinct(key, [declaration.name for declaration in declarations])
    tensors = []
    for declaration in declarations:
        size = declaration.binary_size
        if size is None:
            tensors.append(from_json(declaration))
            continue
        if size > len(raw):
            raise WireError(
                f"tensor {brief(declaration.name)}: {len(raw)} of its {size} bytes are there"
            )
        tensors.append(from_bytes(declaration, raw[:size]))
        raw = raw[size:]
    if len(raw):
        raise WireError(f"{len(raw)} bytes are left over behind the last tensor")
    return tuple(tensors)


def _requested(entry: object, default: bool) -> RequestedOutput:
    if not isinstance(entry, dict):
        raise WireError("outputs holds something that is no JSON object")
    parameters = read_parameters(entry)
    if parameters.get("classification") or any(
        name.startswith("shared_memory") for name in parameters
    ):
        raise WireError("outputs: classification and shared memory are not supported")
    return RequestedOutput(read_name(entry), _flag(parameters, "binary_data", default))


def _flag(parameters: dict[str, Any], name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise WireError(f"parameters.{name} is neither true nor false")
    return value


def _timeout_us(parameters: dict[str, Any]) -> int | None:
    value = parameters.get("timeout")
    if value is not None and (type(value) is not int or not 0 <= value <= LONGEST_TIMEOUT_US):
        raise WireError("parameters.timeout is no number of microseconds")
    # Triton's clients write 0 for no timeout.
    return value or None


def _id(head: dict[str, Any]) -> str | None:
    identifier = head.get("id")
    if identifier is not None and not (isinstance(identifier, str) and len(identifier) <= 256):
        raise WireError(f"id {brief(identifier)} is no text of up to 256 characters")
    return identifier


def _require_distinct(key: str, names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise WireError(f"{key}: {brief(name)} is given twice")
        seen.add(name)
