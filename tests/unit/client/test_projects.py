"""A collaboration service that answers with something else."""

import httpx
import pytest

from veilseg.client.credentials import Credentials
from veilseg.client.projects import ProjectClient
from veilseg.errors import InvalidAnswer, ServerRefused, WrongUsage


def client(answer: httpx.Response) -> ProjectClient:
    transport = httpx.MockTransport(lambda request: answer)
    return ProjectClient("http://127.0.0.1", "p", Credentials(token="secret"), transport)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"no document", b"[]", b"{}", b'{"project": "p"}'),
        b'{"project": "p", "state": "open", "format": {}, "pairs": "x", "versions": [], "fit": 1}',
        b'{"contributions": [{"key": 1}], "shards": {"x": ""}, "token": 7, "withdrawn_shards": []}',
    ],
)
@pytest.mark.parametrize(
    "ask",
    [
        lambda one: one.describe(),
        lambda one: one.contributions(),
        lambda one: one.begin("0" * 32, "c", 1, 1),
        lambda one: one.withdraw("0" * 32),
        lambda one: one.rotate_token(),
    ],
)
def test_answer_that_is_none(content, ask):
    with pytest.raises(InvalidAnswer, match=r"http://127\.0\.0\.1: answers with no document"):
        ask(client(httpx.Response(200, content=content)))


def test_refusal_is_told_in_one_line():
    refusal = httpx.Response(409, json={"error": "project p: is closed"})
    with pytest.raises(ServerRefused, match="409 project p: is closed"):
        client(refusal).complete("0" * 32)


def test_token_is_needed():
    with pytest.raises(WrongUsage, match="--token-file: give the site's token"):
        ProjectClient("http://127.0.0.1", "p", Credentials())
