"""Requests that are sound protocol and yet no request to this model, without HTTP."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from veilseg.serving.dataplane import DataPlane
from veilseg.serving.errors import InvalidRequest
from veilseg.serving.models import ServedModel
from veilseg.serving.repository import ModelRepository
from veilseg.wire import InferRequest, Message, Tensor, WireError, encode_request


def message(array: np.ndarray, name: str = "proxy") -> Message:
    return encode_request(InferRequest((Tensor(name, array),)))


def json_message(shape: tuple[int, ...], value: float, **fields: Any) -> Message:
    data = [value] * int(np.prod(shape))
    tensor = {"name": "proxy", "datatype": "FP16", "shape": list(shape), "data": data}
    return Message(json.dumps({"inputs": [tensor], **fields}).encode(), None)


def with_value(array: np.ndarray, value: float) -> np.ndarray:
    array = array.copy()
    array[0, 0, 1, 2, 3] = value
    return array


UNFIT: dict[str, tuple[Callable[[np.ndarray], Message], str]] = {
    "NaN": (lambda t: message(with_value(t, np.nan)), "holds NaN or infinity"),
    "infinity": (lambda t: message(with_value(t, -np.inf)), "holds NaN or infinity"),
    "JSON beyond FP16": (lambda t: json_message(t.shape, 1e30), "holds NaN or infinity"),
    "shape": (lambda t: message(t[..., :3]), "shape [1, 1, 8, 6, 3] is not [n, 1, 8, 6, 4]"),
    "axes": (lambda t: message(t[0]), "shape [1, 8, 6, 4] is not [n, 1, 8, 6, 4]"),
    "batch": (lambda t: message(np.repeat(t, 9, axis=0)), "with n from 1 to 8"),
    "datatype": (lambda t: message(t.astype(np.float32)), "FP32 is not FP16"),
    "name": (lambda t: message(t, "image"), "expected proxy alone, got 'image'"),
    "two": (
        lambda t: encode_request(InferRequest((Tensor("proxy", t), Tensor("more", t)))),
        "expected proxy alone, got 'proxy', 'more'",
    ),
    "output": (
        lambda t: json_message(t.shape, 0.5, outputs=[{"name": "mask"}]),
        "outputs: 'mask' is unknown; there is answer",
    ),
}
BROKEN: dict[str, tuple[Callable[[np.ndarray], Message], str]] = {
    "bytes": (lambda t: cut(message(t), -1), "383 of its 384 bytes"),
    "left over": (lambda t: cut(message(t), None, b"x"), "1 bytes are left over"),
    "header": (lambda t: Message(b"{}", 3), "beyond the body"),
    "no JSON": (lambda t: Message(b"\x00", None), "not JSON"),
}


def cut(whole: Message, end: int | None, more: bytes = b"") -> Message:
    return Message(whole.body[:end] + more, whole.header_length)


CASES = [
    pytest.param(make, kind, reason, id=name)
    for kind, rows in ((InvalidRequest, UNFIT), (WireError, BROKEN))
    for name, (make, reason) in rows.items()
]


@pytest.mark.parametrize(("make", "kind", "reason"), CASES)
def test_bad_requests(
    model: ServedModel, tile: np.ndarray, make, kind: type[Exception], reason: str
):
    sent = make(tile[np.newaxis].astype(np.float16))
    length = None if sent.header_length is None else str(sent.header_length)
    with pytest.raises(kind) as caught:
        DataPlane(ModelRepository([model])).infer("tiny", None, sent.body, length)
    assert reason in str(caught.value)


def test_the_limit_is_a_full_batch_or_a_tile_as_text(model: ServedModel, tile: np.ndarray):
    limit = DataPlane(ModelRepository([model])).largest_request_bytes
    tiles = tile[np.newaxis].astype(np.float16)
    assert len(message(np.repeat(tiles, 8, axis=0)).body) < limit
    assert len(json_message(tiles.shape, float(np.float16(6e-8))).body) < limit
    assert limit < 100_000
