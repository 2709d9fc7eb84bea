"""Round trips, and every way a message can be wrong."""

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from veilseg.wire import (
    InferAnswer,
    InferRequest,
    RequestedOutput,
    Tensor,
    WireError,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)

names = st.text(min_size=1, max_size=20)
arrays = st.sampled_from([np.float16, np.float32]).flatmap(
    lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=1, max_dims=6, max_side=4))
)
finite_arrays = st.sampled_from([np.float16, np.float32]).flatmap(
    lambda dtype: npst.arrays(
        dtype,
        npst.array_shapes(max_side=4),
        elements={"allow_nan": False, "allow_infinity": False},
    )
)


def header(length: int | None) -> str | None:
    return None if length is None else str(length)


def assert_same_tensors(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> None:
    assert [(t.name, t.datatype) for t in first] == [(t.name, t.datatype) for t in second]
    for one, other in zip(first, second, strict=True):
        assert one.array.shape == other.array.shape
        assert one.raw() == other.raw()


@settings(derandomize=True, deadline=None)
@given(st.dictionaries(names, arrays, min_size=1, max_size=3), st.none() | names, st.booleans())
def test_request_round_trip(tensors: dict[str, np.ndarray], identifier: str | None, binary: bool):
    request = InferRequest(
        tuple(Tensor(name, array) for name, array in tensors.items()),
        (RequestedOutput("answer", binary),),
        binary_outputs=binary,
        id=identifier,
    )
    message = encode_request(request)
    decoded = decode_request(message.body, header(message.header_length))
    assert_same_tensors(decoded.inputs, request.inputs)
    assert (decoded.outputs, decoded.binary_outputs, decoded.id) == (
        request.outputs,
        request.binary_outputs,
        request.id,
    )


@settings(derandomize=True, deadline=None)
@given(finite_arrays, st.booleans())
def test_answer_round_trip(array: np.ndarray, binary: bool):
    # JSON numbers are float64, which holds float16 and float32 exactly.
    answer = InferAnswer("m", "1", (Tensor("answer", array),), parameters={"bundle_id": "x"})
    message = encode_answer(answer, {"answer"} if binary else ())
    decoded = decode_answer(message.body, header(message.header_length))
    assert_same_tensors(decoded.outputs, answer.outputs)
    assert decoded.parameters == {"bundle_id": "x"}


def test_decoded_tensors_are_views_that_cannot_be_written():
    message = encode_request(InferRequest((Tensor("x", np.ones(3, np.float32)),)))
    array = decode_request(bytearray(message.body), header(message.header_length)).inputs[0].array
    assert not array.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 2


def tensor(**changes: Any) -> dict[str, Any]:
    entry = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]} | changes
    return {key: value for key, value in entry.items() if value is not ...}


def binary(size: Any, **changes: Any) -> dict[str, Any]:
    return tensor(data=..., parameters={"binary_data_size": size}, **changes)


BAD_TENSORS = {
    "declared size is not shape times dtype": (binary(12), "not the 8 bytes"),
    "size true": (binary(True, shape=[1], datatype="FP16"), "not the 2 bytes"),
    "size negative": (binary(-8), "not the 8 bytes"),
    "no data": (tensor(data=...), "either data or"),
    "data twice": (tensor(parameters={"binary_data_size": 8}), "either data or"),
    "shared memory": (tensor(parameters={"shared_memory_region": "r"}), "shared memory"),
    "negative length": (tensor(shape=[-1, 2]), "no positive integer"),
    "zero length": (tensor(shape=[0, 2]), "no positive integer"),
    "boolean length": (tensor(shape=[True, 2]), "no positive integer"),
    "fractional length": (tensor(shape=[1.0, 2]), "no positive integer"),
    "absurd shape": (tensor(shape=[2**40, 2**40]), "more than 2147483647 elements"),
    "many axes": (tensor(shape=[1] * 9), "1 to 8 lengths"),
    "no shape": (tensor(shape=...), "1 to 8 lengths"),
    "text shape": (tensor(shape="2"), "1 to 8 lengths"),
    "unknown datatype": (tensor(datatype="FLOAT"), "'FLOAT' is no datatype of the protocol"),
    "other datatype": (tensor(datatype="INT64"), "'INT64' is not supported here"),
    "datatype no text": (tensor(datatype=["FP32"]), "is no datatype of the protocol"),
    "no name": (tensor(name=...), "name is a text"),
    "empty name": (tensor(name=""), "name is a text"),
    "parameters no object": (tensor(parameters=[]), "parameters is not a JSON object"),
    "data no list": (tensor(data=1.0), "data is not a list"),
    "too few values": (tensor(data=[1.0]), "1 values do not fill"),
    "text values": (tensor(data=["1", "2"]), "no number"),
    "boolean values": (tensor(data=[True, 2.0]), "no number"),
    "null values": (tensor(data=[None, 2.0]), "no number"),
    "ragged": (tensor(shape=[2, 2], data=[[1.0], [2.0, 3.0, 4.0]]), "not nested as"),
    "nested otherwise": (tensor(data=[[1.0], [2.0]]), "not nested as"),
    "nested too deeply": (tensor(data=[[[1.0], [2.0]]]), "no number"),
    "beyond float64": (tensor(data=[10**400, 2.0]), "beyond FP64"),
    "not an object": ("x", "described by a JSON object"),
}


@pytest.mark.parametrize(("entry", "reason"), BAD_TENSORS.values(), ids=BAD_TENSORS)
def test_bad_tensors(entry: Any, reason: str):
    body = json.dumps({"inputs": [entry]}).encode()
    with pytest.raises(WireError, match=reason):
        decode_request(body, None)


BAD_MESSAGES = {
    "empty": (b"", None, "not JSON"),
    "not JSON": (b"proxy", None, "not JSON"),
    "not UTF-8": (b"\xff\xfe\x01", None, "not JSON"),
    "NaN is no JSON": (b'{"inputs":[NaN]}', None, "not JSON"),
    "nested without end": (b"[" * 100_000, None, "not JSON"),
    "number without end": (b"1" * 5000, None, "not JSON"),
    "list": (b"[]", None, "not an object"),
    "no inputs": (b"{}", None, "inputs is missing or empty"),
    "inputs empty": (b'{"inputs":[]}', None, "inputs is missing or empty"),
    "inputs no list": (b'{"inputs":{}}', None, "inputs is missing or empty"),
    "header beyond body": (b"{}", "3", "beyond the body of 2 bytes"),
    "header negative": (b"{}", "-1", "is no length"),
    "header signed": (b"{}", "+1", "is no length"),
    "header no number": (b"{}", "two", "is no length"),
    "header in other digits": (b"{}", "\u0662", "is no length"),
    "header endless": (b"{}", "9" * 400, "is no length"),
}


@pytest.mark.parametrize(("body", "length", "reason"), BAD_MESSAGES.values(), ids=BAD_MESSAGES)
def test_bad_messages(body: bytes, length: str | None, reason: str):
    with pytest.raises(WireError, match=reason):
        decode_request(body, length)


def request_with(**changes: Any) -> bytes:
    return json.dumps({"inputs": [tensor()], **changes}).encode()


BAD_FIELDS = {
    "duplicate inputs": (request_with(inputs=[tensor(), tensor()]), "inputs: 'x' is given twice"),
    "duplicate outputs": (request_with(outputs=[{"name": "y"}] * 2), "outputs: 'y' is given twice"),
    "outputs no list": (request_with(outputs={}), "outputs is not a list"),
    "output no object": (request_with(outputs=["y"]), "no JSON object"),
    "classification": (
        request_with(outputs=[{"name": "y", "parameters": {"classification": 3}}]),
        "classification and shared memory",
    ),
    "binary_data no boolean": (
        request_with(outputs=[{"name": "y", "parameters": {"binary_data": 1}}]),
        "neither true nor false",
    ),
    "id no text": (request_with(id=7), "id 7 is no text"),
    "a timeout beyond counting": (
        request_with(parameters={"timeout": 10**400}),
        "no number of microseconds",
    ),
    "parameters no object": (request_with(parameters=[]), "parameters is not a JSON object"),
}


@pytest.mark.parametrize(("body", "reason"), BAD_FIELDS.values(), ids=BAD_FIELDS)
def test_bad_fields(body: bytes, reason: str):
    with pytest.raises(WireError, match=reason):
        decode_request(body, None)


@pytest.mark.parametrize(("cut", "reason"), [(-1, "7 of its 8 bytes"), (None, "2 bytes are left")])
def test_raw_bytes_are_exactly_the_declared_ones(cut: int | None, reason: str):
    head = json.dumps({"inputs": [binary(8)]}).encode()
    raw = bytes(8)[:cut] + (b"" if cut else bytes(2))
    with pytest.raises(WireError, match=reason):
        decode_request(head + raw, str(len(head)))


def test_nested_and_flat_json_data_are_the_same():
    nested = request_with(inputs=[tensor(shape=[2, 1, 2], data=[[[1, 2]], [[3, 4]]])])
    flat = request_with(inputs=[tensor(shape=[2, 1, 2], data=[1, 2, 3, 4])])
    assert_same_tensors(decode_request(nested, None).inputs, decode_request(flat, None).inputs)


def test_per_output_choice_overrides_the_general_one():
    body = request_with(
        parameters={"binary_data_output": True},
        outputs=[{"name": "a"}, {"name": "b", "parameters": {"binary_data": False}}],
    )
    assert [output.binary for output in decode_request(body, None).outputs] == [True, False]


def test_json_answers_hold_no_nan():
    answer = InferAnswer("m", "1", (Tensor("answer", np.array([np.nan], np.float32)),))
    with pytest.raises(WireError, match="JSON holds no NaN"):
        encode_answer(answer, ())


def test_other_dtypes_have_no_datatype():
    with pytest.raises(WireError, match="int64: only float16 and float32"):
        encode_request(InferRequest((Tensor("x", np.arange(2)),)))


@pytest.mark.parametrize("body", [b'{"outputs":[]}', b'{"model_name":1,"outputs":[]}'])
def test_an_answer_names_its_model(body: bytes):
    with pytest.raises(WireError, match="model_name"):
        decode_answer(body, None)


def test_messages_quote_no_more_than_a_line_of_the_sender():
    body = request_with(inputs=[tensor(name="x" * 200 + "\n", datatype="y" * 5000)])
    with pytest.raises(WireError) as caught:
        decode_request(body, None)
    assert len(str(caught.value)) < 250
    assert "\n" not in str(caught.value)


def test_the_wire_needs_no_framework():
    code = "import sys, veilseg.wire; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert {"fastapi", "pydantic", "httpx", "openvino", "torch"}.isdisjoint(loaded.stdout.split())
