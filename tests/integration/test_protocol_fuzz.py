"""Requests made from the protocol's own description, right and wrong, to the real server."""

from collections.abc import Iterator
from pathlib import Path

import protocol
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from processes import ServeProcess

from veilseg.access import token_file

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

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
        assert process.text.count(" answered ") > 1000


@pytest.fixture(scope="module")
def token(server: ServeProcess) -> str:
    return Path(server.log).with_name("token").read_text()


@schema.parametrize()
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_request_breaks_it(case, server: ServeProcess, token: str):
    headers = {"Authorization": f"Bearer {token}"}
    response = case.call(base_url=server.url, headers=headers)
    assert response.status_code < 500, response.text
    assert "x-request-id" in response.headers
    if response.status_code >= 400:
        assert list(response.json()) == ["error"]
