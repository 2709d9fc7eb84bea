"""The exact bytes on the wire. A change here breaks deployed sites and servers."""

import numpy as np

from veilseg.bundle import TensorSpec
from veilseg.wire import (
    InferAnswer,
    InferRequest,
    RequestedOutput,
    Tensor,
    documents,
    encode_answer,
    encode_request,
    paths,
)


def half_and_one() -> np.ndarray:
    return np.array([[0.5, 1.0]], dtype=np.float16)


def test_a_request():
    request = InferRequest(
        (Tensor("proxy", half_and_one()),), (RequestedOutput("answer", binary=True),)
    )
    message = encode_request(request)
    head = (
        b'{"inputs":[{"name":"proxy","datatype":"FP16","shape":[1,2],'
        b'"parameters":{"binary_data_size":4}}],'
        b'"outputs":[{"name":"answer","parameters":{"binary_data":true}}]}'
    )
    assert message.body == head + b"\x00\x38\x00\x3c"
    assert message.headers == {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }


def test_a_binary_answer():
    answer = InferAnswer(
        "brain",
        "1.2.0",
        (Tensor("answer", half_and_one().astype(np.float32)),),
        id="7",
        parameters={"bundle_id": "ab"},
    )
    message = encode_answer(answer, binary={"answer"})
    head = (
        b'{"id":"7","model_name":"brain","model_version":"1.2.0","parameters":{"bundle_id":"ab"},'
        b'"outputs":[{"name":"answer","datatype":"FP32","shape":[1,2],'
        b'"parameters":{"binary_data_size":8}}]}'
    )
    assert message.body == head + b"\x00\x00\x00\x3f\x00\x00\x80\x3f"
    assert message.header_length == len(head)


def test_a_json_answer():
    message = encode_answer(InferAnswer("brain", "1", (Tensor("answer", half_and_one()),)), ())
    assert message.body == (
        b'{"model_name":"brain","model_version":"1","outputs":'
        b'[{"name":"answer","datatype":"FP16","shape":[1,2],"data":[0.5,1.0]}]}'
    )
    assert message.headers == {"Content-Type": "application/json"}


def test_big_endian_arrays_travel_little_endian():
    tensor = Tensor("proxy", half_and_one().astype(">f2"))
    assert encode_request(InferRequest((tensor,))).body.endswith(b"\x00\x38\x00\x3c")


def test_paths():
    assert paths.model("brain") == "/v2/models/brain"
    assert paths.model_ready("brain", "1.2.0") == "/v2/models/brain/versions/1.2.0/ready"
    assert paths.model_infer("../a b", "1/2") == "/v2/models/..%2Fa%20b/versions/1%2F2/infer"


def test_documents():
    spec = TensorSpec("proxy", "FP16", (-1, 1, 8))
    metadata = documents.ModelMetadata("brain", ("1.2.0",), "onnx_onnxv1", (spec,), (), {"a": "b"})
    assert metadata.to_json() == {
        "name": "brain",
        "versions": ["1.2.0"],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "proxy", "datatype": "FP16", "shape": [-1, 1, 8]}],
        "outputs": [],
        "parameters": {"a": "b"},
    }
    assert documents.server_metadata("veilseg", "0.1.0") == {
        "name": "veilseg",
        "version": "0.1.0",
        "extensions": ["binary_tensor_data", "model_repository"],
    }
    assert documents.error("why") == {"error": "why"}
