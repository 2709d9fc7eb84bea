"""Retries, pauses and refusals of single exchanges."""

import time
from collections.abc import Iterator
from email.utils import formatdate

import httpx
import pytest

from veilseg.client import transfer
from veilseg.client.credentials import Credentials
from veilseg.client.pauses import FIRST_BACKOFF_S, LONGEST_BACKOFF_S
from veilseg.client.transfer import Reply, Transfer
from veilseg.errors import InvalidInput, ServerRefused, ServerUnreachable
from veilseg.wire import Message

Scripted = httpx.Response | Exception
OK = httpx.Response(200, content=b"answer")


class Broken(httpx.SyncByteStream):
    """A body whose connection closes after the first bytes."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"ans"
        raise httpx.ReadError("connection reset by peer")


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, taken without waiting."""
    pauses: list[float] = []
    monkeypatch.setattr(transfer, "sleep", pauses.append)
    return pauses


def exchanged(*script: Scripted, retries: int = 4) -> Reply:
    """Post to a server that answers as scripted; all of it has to be used."""
    left = list(script)

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.host == "server"
        step = left.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    exchange = Transfer("http://server:1/", 1.0, retries, httpx.MockTransport(answer))
    try:
        return exchange.post("/v2", Message(b"tile", None), limit_bytes=10)
    finally:
        exchange.close()
        assert left == []


@pytest.mark.parametrize(
    "fault",
    [
        *(httpx.Response(status) for status in (429, 502, 503, 504)),
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout(""),
        httpx.ReadTimeout(""),
        httpx.RemoteProtocolError("server disconnected"),
        httpx.Response(200, headers={"content-length": "50"}, content=b"{"),
    ],
    ids=repr,
)
def test_passing_faults_are_tried_again(fault: Scripted, pauses: list[float]):
    assert exchanged(fault, fault, fault, OK).body == b"answer"
    assert len(pauses) == 3
    for attempt, pause in enumerate(pauses):
        longest = FIRST_BACKOFF_S * 2**attempt
        assert longest / 2 <= pause <= longest


def test_a_server_that_has_answered_before_is_waited_for_longer(pauses: list[float]):
    """It is likely to be starting anew; an address at which nobody ever was is told of soon."""
    steps: list[Exception | None] = [None, *[httpx.ConnectError("refused")] * 3, None]

    def answer(_: httpx.Request) -> httpx.Response:
        if (step := steps.pop(0)) is not None:
            raise step
        return httpx.Response(200, content=b"answer")

    def exchange() -> Transfer:
        transport = httpx.MockTransport(answer)
        return Transfer("http://server:1/", 1.0, 1, transport, more_once_met=2)

    met = exchange()
    for _ in range(2):
        assert met.post("/v2", Message(b"tile", None), limit_bytes=10).body == b"answer"
    assert (steps, len(pauses)) == ([], 3)
    steps += [httpx.ConnectError("refused")] * 2
    with pytest.raises(ServerUnreachable):
        exchange().post("/v2", Message(b"tile", None), limit_bytes=10)
    assert steps == []


def test_a_connection_that_closes_in_the_middle_of_the_answer():
    broken = [httpx.Response(200, stream=Broken()) for _ in range(3)]
    assert exchanged(*broken, OK).body == b"answer"


def test_an_answer_that_drips_is_one_that_does_not_come(monkeypatch: pytest.MonkeyPatch):
    """No silence is long, and the whole of it would never end."""
    clock = iter(range(0, 10_000, 5))
    monkeypatch.setattr(transfer.time, "monotonic", lambda: float(next(clock)))

    def drops() -> Iterator[bytes]:
        while True:
            yield b"x"

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=drops())

    exchange = Transfer("http://server:1", 20.0, 1, httpx.MockTransport(answer))
    with pytest.raises(ServerUnreachable, match="did not answer in time"):
        exchange.get("/", 10**6)
    assert exchange.bytes_received < 20


def test_pauses_stop_growing(pauses: list[float]):
    exchanged(*[httpx.Response(503)] * 12, OK, retries=12)
    assert max(pauses) <= LONGEST_BACKOFF_S


def test_retry_after_is_honoured_within_a_cap(pauses: list[float]):
    later = formatdate(time.time() + 20, usegmt=True)
    asked = ("5", "86400", later, "soon", "-3")
    exchanged(*(httpx.Response(429, headers={"retry-after": a}) for a in asked), OK, retries=5)
    assert pauses[:2] == [5.0, 30.0]
    assert 15 < pauses[2] <= 20
    assert all(pause <= 8 for pause in pauses[3:])


@pytest.mark.parametrize(
    ("fault", "kind", "reason"),
    [
        (httpx.ConnectError("Connection refused"), ServerUnreachable, "Connection refused"),
        (httpx.ConnectTimeout(""), ServerUnreachable, "did not answer in time"),
        (httpx.RemoteProtocolError(""), ServerUnreachable, "RemoteProtocolError"),
        (httpx.Response(503, json={"error": "busy"}), ServerRefused, "503 busy"),
        (httpx.Response(502, content=b"<p>bad\x1b[31m\ngateway"), ServerRefused, "502 <p>bad"),
    ],
    ids=repr,
)
def test_lasting_faults_end_it(fault, kind: type[Exception], reason: str, pauses: list[float]):
    with pytest.raises(kind, match=f"^http://server:1: {reason}") as caught:
        exchanged(fault, fault, fault, retries=2)
    assert len(pauses) == 2
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_busy_server_is_waited_for_longer_than_a_failing_one(pauses: list[float]):
    busy = httpx.Response(429, headers={"retry-after": "7"}, json={"error": "too many"})
    assert exchanged(*[busy] * 40, OK, retries=0).body == b"answer"
    assert sum(pauses) >= 280
    # Failures in between are counted apart.
    failing = httpx.ConnectError("refused")
    assert exchanged(busy, failing, busy, failing, busy, OK, retries=2).body == b"answer"


def test_a_server_that_stays_busy_is_given_up(pauses: list[float]):
    busy = httpx.Response(429, headers={"retry-after": "30"}, json={"error": "too many"})
    with pytest.raises(ServerRefused, match=r"^http://server:1: 429 too many$"):
        exchanged(*[busy] * 21)
    assert sum(pauses) == pytest.approx(600, abs=1)


@pytest.mark.parametrize(
    ("status", "token", "reason"),
    [
        (401, "", "wants a token: give --token-file FILE or set VEILSEG_TOKEN"),
        (401, "t0ken", "does not accept this token: 401 the token is expired"),
        (403, "t0ken", "does not accept this token: 403 the token is expired"),
    ],
)
def test_access_refused(status: int, token: str, reason: str, pauses: list[float]):
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(status, json={"error": "the token is expired"})

    credentials = Credentials(token)
    exchange = Transfer("https://server", 1.0, 4, httpx.MockTransport(answer), credentials)
    with pytest.raises(ServerRefused, match=f"^https://server: {reason}$"):
        exchange.get("/v2", 10)
    exchange.close()
    assert pauses == []
    assert seen[0].headers.get("authorization") == (f"Bearer {token}" if token else None)


@pytest.mark.parametrize("url", ["https://server", "http://localhost:1", "http://127.0.0.1:1",
                                 "http://[::1]:1"])  # fmt: skip
def test_where_a_token_may_go(url: str):
    Transfer(url, 1.0, 0, None, Credentials("secret")).close()


def test_nothing_for_this_machine_goes_through_a_proxy(monkeypatch: pytest.MonkeyPatch):
    """A token and tiles in the clear would be the proxy's as well."""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.delenv("NO_PROXY", raising=False)
    for url, through in (("http://127.0.0.1:1", False), ("http://server", True)):
        exchange = Transfer(url, 1.0, 0, None, Credentials())
        pool = exchange._client._transport_for_url(httpx.URL(url))._pool
        assert ("Proxy" in type(pool).__name__) == through
        exchange.close()


@pytest.mark.parametrize("url", ["http://server", "http://10.0.0.1", "http://localhost.evil.org"])
def test_no_token_in_the_clear(url: str):
    Transfer(url, 1.0, 0, None, Credentials()).close()
    with pytest.raises(InvalidInput, match="a token goes over https:// only") as caught:
        Transfer(url, 1.0, 0, None, Credentials("secret"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("status", [301, 307, 400, 404, 413, 500])
def test_other_statuses_end_it_at_once(status: int, pauses: list[float]):
    text = "why " * 300 + "\nsecond line"
    headers = {"location": "http://elsewhere/"}
    reply = exchanged(httpx.Response(status, json={"error": text}, headers=headers))
    assert reply.error_text.startswith(f"{status} why why")
    assert len(reply.error_text) < 210
    assert "\n" not in reply.error_text
    assert pauses == []


def test_endless_errors_are_not_kept():
    reply = exchanged(httpx.Response(500, content=bytes(200_000)))
    assert len(reply.body) == transfer.MAX_ERROR_BYTES


@pytest.mark.parametrize(
    "url",
    ["server", "server:8000", "//server", "ftp://server", "http://", "http://server:99999",
     "http://user:secret@server", "http://server?x=1", "http://server:x", ""],
)  # fmt: skip
def test_urls_that_cannot_be_used(url: str):
    with pytest.raises(InvalidInput, match=r"^server URL") as caught:
        Transfer(url, 1.0, 0, None)
    assert "secret" not in str(caught.value)


def test_nobody_waits_for_a_busy_server_any_more(pauses: list[float]):
    class Gone(Exception):
        pass

    asked = []

    def still_wanted() -> None:
        asked.append(sum(pauses))
        if len(asked) == 4:
            raise Gone

    def busy(_: httpx.Request) -> httpx.Response:
        return httpx.Response(429, headers={"Retry-After": "20"})

    exchange = Transfer(
        *("http://server:1/", 1.0, 4, httpx.MockTransport(busy)), still_wanted=still_wanted
    )
    with pytest.raises(Gone):
        exchange.post("/v2", Message(b"tile", None), limit_bytes=10)
    exchange.close()
    assert sum(pauses) < 1  # of the twenty seconds that the server asked for
