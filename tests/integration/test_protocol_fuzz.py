"""Requests made from the protocol's own description, right and wrong, to the real server."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import protocol
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from processes import ServeProcess

from veilseg.access import token_file
from veilseg.wire import InferRequest, Message, RequestedOutput, Tensor, encode_request
from veilseg.wire.infer import HEADER_LENGTH

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

# What a field of a request may hold instead of what it should; a deadline of less than a minute
# would be kept, and meet 504.
VALUES = st.recursive(
    st.one_of(
        *(st.none(), st.booleans(), st.floats(), st.text(max_size=8)),
        st.integers().filter(lambda number: not 0 < number < 60_000_000),
        st.sampled_from(["FP16", "BYTES", "proxy", 2**63, 10**400]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=6), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)

schema = schemathesis.openapi.from_dict(protocol.document())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, make_bundle) -> Iterator[ServeProcess]:
    folder = tmp_path_factory.mktemp("fuzz")
    tokens = folder / "tokens.json"
    token, _ = token_file.add(tokens, "fuzz", ["infer", "admin", "metrics"], 1)
    (folder / "token").write_text(token)
    audit_log = ["--audit-log", folder / "audit.jsonl"]
    with ServeProcess(folder / "log", make_bundle(), "--tokens", tokens, *audit_log) as process:
        yield process
        assert process.process.poll() is None, "it did not crash"
        assert "Traceback" not in process.text
        assert "request failed" not in process.text
        # Hypothesis may stop early where a place has few variants; in all it has to be many.
        assert process.text.count(" answered ") >= 10_000


@pytest.fixture(scope="module")
def token(server: ServeProcess) -> str:
    return Path(server.log).with_name("token").read_text()


@pytest.fixture(scope="module")
def client(server: ServeProcess, token: str) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=120) as client:
        yield client


@schema.parametrize()
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_request_breaks_it(case, server: ServeProcess, token: str):
    headers = {"Authorization": f"Bearer {token}"}
    response = case.call(base_url=server.url, headers=headers)
    assert response.status_code < 500, response.text
    assert "x-request-id" in response.headers
    if response.status_code >= 400:
        assert list(response.json()) == ["error"]


def changed(sent: Message, data: st.DataObject) -> tuple[bytes, dict[str, str]]:
    """A sound request with one thing changed: of its JSON, of its bytes, or of its headers."""
    headers, body = dict(sent.headers), sent.body
    length = int(headers[HEADER_LENGTH])
    what = data.draw(st.sampled_from(["json", "bytes", "cut", "more", "length", "nothing"]))
    if what == "json":
        document = json.loads(body[:length])
        place = data.draw(st.sampled_from([document, document["inputs"][0], *document["outputs"]]))
        name = data.draw(st.sampled_from([*place, "parameters", "id", "timeout"]))
        place[name] = data.draw(VALUES)
        text = json.dumps(document).encode()
        headers[HEADER_LENGTH] = str(len(text))
        return text + body[length:], headers
    place = data.draw(st.integers(0, len(body) - 1))
    if what == "bytes":
        some = data.draw(st.binary(min_size=1, max_size=8))
        body = body[:place] + some + body[place + len(some) :]
    elif what == "cut":
        body = body[:place]
    elif what == "more":
        body = body[:place] + data.draw(st.binary(min_size=1, max_size=64)) + body[place:]
    elif what == "length":
        headers[HEADER_LENGTH] = data.draw(
            st.one_of(st.integers(-2, len(body) + 2).map(str), st.sampled_from(["", "x", "1e3"]))
        )
    return body, headers


@given(data=st.data())
@settings(max_examples=9000, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_sound_request_with_one_thing_changed_breaks_it(
    server: ServeProcess, client: httpx.Client, tile: np.ndarray, data: st.DataObject
):
    request = InferRequest(
        (Tensor("proxy", tile[np.newaxis].astype(np.float16)),),
        outputs=(RequestedOutput("answer", binary=True),),
    )
    body, headers = changed(encode_request(request), data)
    response = client.post("/v2/models/tiny/infer", content=body, headers=headers)
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        assert list(response.json()) == ["error"]
