"""Model metadata of servers that are not ours."""

from typing import Any

import pytest

from veilseg.bundle import TensorSpec
from veilseg.wire import WireError
from veilseg.wire.documents import ModelMetadata

SPEC = {"name": "proxy", "datatype": "FP16", "shape": [-1, 1, 8]}
GOOD: dict[str, Any] = {
    "name": "m",
    "versions": ["1"],
    "platform": "onnxruntime_onnx",
    "inputs": [SPEC],
    "outputs": [],
}


def test_round_trip():
    metadata = ModelMetadata.from_json(GOOD)
    assert metadata.inputs == (TensorSpec("proxy", "FP16", (-1, 1, 8)),)
    assert ModelMetadata.from_json(metadata.to_json()) == metadata


def test_lengths_may_be_text():
    metadata = ModelMetadata.from_json(GOOD | {"inputs": [SPEC | {"shape": ["-1", "1", "8"]}]})
    assert metadata.inputs[0].shape == (-1, 1, 8)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ([], "not a JSON object"),
        ({}, "name is a text"),
        (GOOD | {"versions": "1"}, "versions is not a list"),
        (GOOD | {"inputs": None}, "inputs is not a list"),
        (GOOD | {"inputs": ["proxy"]}, "inputs holds something"),
        (GOOD | {"inputs": [SPEC | {"shape": ["x"]}]}, "a shape holds no integers"),
        (GOOD | {"inputs": [SPEC | {"shape": 3}]}, "a shape holds no integers"),
        (GOOD | {"parameters": "x"}, "parameters is not a JSON object"),
    ],
)
def test_bad_documents(document: object, reason: str):
    with pytest.raises(WireError, match=reason):
        ModelMetadata.from_json(document)
