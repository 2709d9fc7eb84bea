"""Messages of anybody: decoded, or refused with the codec's own error, and nothing else."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from veilseg.wire import (
    InferAnswer,
    InferRequest,
    Tensor,
    WireError,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)

CASES = 10_000
numbers = st.integers(-3, 2**65) | st.floats() | st.booleans() | st.none()
anything = st.recursive(
    numbers | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
# Fields of the protocol with values that may or may not be right.
parameters = st.dictionaries(
    st.sampled_from(
        ["binary_data", "binary_data_size", "binary_data_output", "timeout", "shared_memory_region"]
    ),
    numbers | anything,
    max_size=3,
)
tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["proxy", "answer", ""]) | anything,
        "datatype": st.sampled_from(["FP16", "FP32", "BF16", "INT8"]) | anything,
        "shape": st.lists(st.integers(-1, 3) | anything, max_size=9) | anything,
        "parameters": parameters | anything,
        "data": st.lists(numbers | st.lists(numbers, max_size=3), max_size=6) | anything,
    },
)
heads = st.fixed_dictionaries(
    {},
    optional={
        "id": st.text(max_size=300) | anything,
        "model_name": st.text(max_size=5) | anything,
        "model_version": st.text(max_size=5) | anything,
        "parameters": parameters | anything,
        "inputs": st.lists(tensors, max_size=3) | anything,
        "outputs": st.lists(tensors, max_size=3) | anything,
    },
)
lengths = st.none() | st.integers(-1, 400).map(str) | st.text(max_size=25)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, str | None]:
    """Bytes of any kind: noise, JSON of the protocol's fields, sound messages with faults."""
    kind = draw(st.sampled_from(["noise", "json", "sound", "sound"]))
    if kind == "noise":
        return draw(st.binary(max_size=200)), draw(lengths)
    if kind == "json":
        text = json.dumps(draw(heads)).encode()
        raw = draw(st.binary(max_size=24))
        return text + raw, draw(st.sampled_from([str(len(text)), None]) | lengths)
    shape = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    dtype = draw(st.sampled_from([np.float16, np.float32]))
    array = np.full(shape, draw(st.floats(width=16)), dtype)
    if draw(st.booleans()):
        message = encode_request(
            InferRequest((Tensor("proxy", array),), timeout_us=draw(st.none() | st.just(5)))
        )
    else:
        message = encode_answer(InferAnswer("m", "1", (Tensor("answer", array),)), {"answer"})
    body = bytearray(message.body)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, max(0, len(body) - 1)))
        edit = draw(st.sampled_from(["change", "insert", "cut"]))
        if edit == "change" and body:
            body[at] = draw(st.integers(0, 255))
        elif edit == "insert":
            body[at:at] = draw(st.binary(max_size=6))
        else:
            del body[at:]
    length = None if message.header_length is None else str(message.header_length)
    return bytes(body), draw(st.sampled_from([length, length, None]) | lengths)


def survives(case: tuple[bytes, str | None]) -> None:
    body, length = case
    for decode in (decode_request, decode_answer):
        try:
            decoded: Any = decode(body, length)
        except WireError as error:
            text = str(error)
            assert len(text) < 400
            assert text.isprintable()
            continue
        tensors = decoded.inputs if decode is decode_request else decoded.outputs
        # What is let through is whole: arrays of no more than what was sent or written.
        assert all(one.array.nbytes <= 4 * len(body) for one in tensors)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(bodies())
@example((b"[" * 100_000, None))
@example((b'{"inputs":[' + b"[" * 100_000, None))
@example((b'{"id":' + b"9" * 5000 + b"}", None))
@example((b"\xef\xbb\xbf{}", None))
@example((b'{"inputs":[{"name":"x","datatype":"FP16","shape":[1],"data":[1e999]}]}', None))
@example((b'{"inputs":[{"name":"\xed\xa0\x80","datatype":"FP16","shape":[1],"data":[1]}]}', None))
@example((b'{"inputs":[{"name":"\\ud800","datatype":"X","shape":[1],"data":[1]}]}', None))
def test_whatever_comes_is_decoded_or_refused(case: tuple[bytes, str | None]):
    survives(case)


@pytest.mark.long
@pytest.mark.timeout(3600)
@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
@given(bodies())
def test_whatever_comes_is_decoded_or_refused_ten_thousand_times(case: tuple[bytes, str | None]):
    survives(case)
