"""One HTTP exchange after another with a server that may be slow, busy or gone."""

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from time import sleep
from typing import Final

import httpx

from veilseg.client.addresses import is_safe_for_tokens, is_this_machine, usable
from veilseg.client.credentials import TOKEN_VARIABLE, Credentials
from veilseg.client.pauses import backoff_s, retry_after_s
from veilseg.errors import InvalidAnswer, InvalidInput, ServerRefused, ServerUnreachable
from veilseg.wire import Message

# The server, or a proxy before it, says of these that they may pass.
PASSING_STATUSES: Final = frozenset({429, 502, 503, 504})
# A server that says it is busy is well: waiting in its queue is no failed attempt. But a queue
# that is full for so long will not be empty soon.
LONGEST_QUEUE_S: Final = 600.0
# Of an error only one line is shown; more than this is no error message.
# An answer that comes more slowly than this, on average, ends as one that does not come.
SLOWEST_BYTES_PER_S: Final = 8192
MAX_ERROR_BYTES: Final = 65536
MAX_ERROR_CHARACTERS: Final = 200
# Between two looks whether an answer is still wanted.
LOOK_S: Final = 0.25

StillWanted = Callable[[], None]


@dataclass(frozen=True)
class Reply:
    """A whole HTTP response."""

    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def error_text(self) -> str:
        """The server's error message as one short line."""
        try:
            fields = httpx.Response(self.status, content=self.body).json()
            text = str(fields["error"])
        except (ValueError, KeyError, TypeError):
            text = self.body.decode(errors="replace")
        line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        shown = line if len(line) <= MAX_ERROR_CHARACTERS else f"{line[:MAX_ERROR_CHARACTERS]}…"
        return f"{self.status} {shown}".rstrip()


class Transfer:
    """Exchanges messages with one server, trying again where that can help.

    Parameters
    ----------
    url : str
        ``http://`` or ``https://``, host, optional port and base path.
    timeout_s : float
        For connecting and for each silence of the connection; of a whole answer, with so much more
        as it would take over a slow line.
    retries : int
        Further attempts after the first. Being told to wait (429) is none.
    credentials : Credentials
        A token is sent over ``https://`` or to this machine only.
    transport : httpx.BaseTransport, optional
        In place of the network, for tests.
    still_wanted : callable, optional
        Called now and then while it waits to try again; what it raises ends that.
    more_once_met : int
        Further attempts of a server that has answered before: it may be starting anew.

    Raises
    ------
    InvalidInput
        If the URL, the timeout, the number of retries or a certificate cannot be used, or a
        token would go over the line in the clear.
    """

    def __init__(
        self,
        url: str,
        timeout_s: float,
        retries: int,
        transport: httpx.BaseTransport | None,
        credentials: Credentials | None = None,
        still_wanted: StillWanted | None = None,
        more_once_met: int = 0,
    ) -> None:
        self.url = usable(url)
        self._more_once_met, self._met = more_once_met, False
        self._still_wanted = still_wanted
        self._credentials = credentials or Credentials()
        if self._credentials.token and not is_safe_for_tokens(url):
            raise InvalidInput(f"server URL {self.url}: a token goes over https:// only")
        if not timeout_s > 0 or retries < 0:
            raise InvalidInput("timeout_s is a positive number and retries is not negative")
        self._retries, self._timeout_s = retries, timeout_s
        self.bytes_sent = 0
        self.bytes_received = 0
        self._client = httpx.Client(
            transport=transport,
            verify=self._credentials.tls(),
            timeout=timeout_s,
            # A proxy of the environment would get in the clear what is for this machine alone.
            trust_env=not is_this_machine(self.url),
            # A redirect would carry the proxy to a server that nobody chose.
            follow_redirects=False,
            # A cookie would let the server tell which tiles belong together.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            # Proxies barely compress, and what arrives uncompressed cannot be a bomb.
            headers={"User-Agent": "veilseg", "Accept": "*/*", "Accept-Encoding": "identity"}
            | self._credentials.headers,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, path: str, limit_bytes: int) -> Reply:
        """Fetch a document. Raises as :meth:`post`."""
        return self._attempted(self._client.build_request("GET", self.url + path), limit_bytes)

    def post(self, path: str, message: Message, limit_bytes: int) -> Reply:
        """Send a message.

        Parameters
        ----------
        path : str
        message : Message
        limit_bytes : int
            The longest body that can be an answer.

        Returns
        -------
        Reply
            Of whatever status, if it is none of :data:`PASSING_STATUSES`.

        Raises
        ------
        ServerUnreachable
            If no attempt met a server, the connection broke each time, or a certificate was
            not accepted.
        ServerRefused
            If the token was not accepted, the last attempt was answered with one of
            :data:`PASSING_STATUSES`, or the server stayed busy.
        InvalidAnswer
            If the answer is longer than any answer, or compressed unasked.
        """
        return self.send("POST", path, message.body, message.headers, limit_bytes)

    def send(
        self, method: str, path: str, content: bytes, headers: dict[str, str], limit_bytes: int
    ) -> Reply:
        """Any request that may be repeated without harm. Raises as :meth:`post`."""
        request = self._client.build_request(
            method, self.url + path, content=content, headers=headers
        )
        return self._attempted(request, limit_bytes)

    def _attempted(self, request: httpx.Request, limit_bytes: int) -> Reply:
        failed, turned_away, waited_s = 0, 0, 0.0
        while True:
            try:
                reply = self._exchange(request, limit_bytes)
            except httpx.TransportError as error:
                refused = _certificate_refused(error)
                if refused is not None:
                    raise ServerUnreachable(f"{self.url}: {refused}") from error
                if failed >= self._allowed:
                    hint = self._hint(error)
                    raise ServerUnreachable(f"{self.url}: {_reason(error)}{hint}") from error
                self._pause(backoff_s(failed))
                failed += 1
                continue
            if reply.status not in PASSING_STATUSES:
                self._met = True
                self._require_access(reply)
                return reply
            wait_s = retry_after_s(reply.headers.get("retry-after"))
            if reply.status == httpx.codes.TOO_MANY_REQUESTS:
                pause_s = max(backoff_s(turned_away), wait_s)
                turned_away, waited_s = turned_away + 1, waited_s + pause_s
                if waited_s > LONGEST_QUEUE_S:
                    raise ServerRefused(f"{self.url}: {reply.error_text}")
            else:
                pause_s = max(backoff_s(failed), wait_s)
                failed += 1
                if failed > self._allowed:
                    raise ServerRefused(f"{self.url}: {reply.error_text}")
            self._pause(pause_s)

    @property
    def _allowed(self) -> int:
        return self._retries + (self._more_once_met if self._met else 0)

    def _pause(self, seconds: float) -> None:
        """Until trying again; cut short if nobody wants the answer any more."""
        part = seconds if self._still_wanted is None else LOOK_S
        while seconds > 0:
            if self._still_wanted is not None:
                self._still_wanted()
            sleep(min(part, seconds))
            seconds -= part

    def _hint(self, error: httpx.TransportError) -> str:
        # With TLS 1.3 a server that misses the site's certificate may hang up without a word.
        silent = isinstance(error, httpx.RemoteProtocolError | httpx.ReadError)
        if silent and self.url.startswith("https:") and self._credentials.client_cert is None:
            return " (if it wants this site's certificate, give --client-cert)"
        return ""

    def _require_access(self, reply: Reply) -> None:
        if reply.status == httpx.codes.UNAUTHORIZED and not self._credentials.token:
            raise ServerRefused(
                f"{self.url}: wants a token: give --token-file FILE or set {TOKEN_VARIABLE}"
            )
        if reply.status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise ServerRefused(f"{self.url}: does not accept this token: {reply.error_text}")

    def _exchange(self, request: httpx.Request, limit_bytes: int) -> Reply:
        sent = len(request.content)
        try:
            response = self._client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            sent = 0
            raise
        finally:
            self.bytes_sent += sent
        try:
            body = self._received(response, limit_bytes)
        finally:
            response.close()
        return Reply(response.status_code, response.headers, body)

    def _received(self, response: httpx.Response, limit_bytes: int) -> bytes:
        answered = response.status_code == httpx.codes.OK
        limit = limit_bytes if answered else MAX_ERROR_BYTES
        if response.headers.get("content-encoding", "identity") != "identity":
            if answered:
                raise InvalidAnswer(f"{self.url}: the answer is compressed, though not asked to be")
            return b""
        body = bytearray()
        begun = time.monotonic()
        for chunk in response.iter_bytes():
            self.bytes_received += len(chunk)
            body += chunk
            # Silence is not all that can last: a byte now and then would hold an image for ever.
            allowed_s = self._timeout_s + len(body) / SLOWEST_BYTES_PER_S
            if time.monotonic() - begun > allowed_s:
                raise httpx.ReadTimeout("the answer comes too slowly")
            if len(body) > limit and not answered:
                return bytes(body[:limit])
            if len(body) > limit:
                raise InvalidAnswer(f"{self.url}: the answer is longer than any answer can be")
        declared = response.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) != len(body):
            raise httpx.RemoteProtocolError("connection closed in the middle of the answer")
        return bytes(body)


def _certificate_refused(error: BaseException) -> str | None:
    """Why one side did not accept the other's certificate or protocol; trying again is no use."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not accepted: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError) and "ALERT" in (cause.reason or ""):
            return f"does not accept this site's connection: {cause.reason}"
        cause = cause.__cause__ or cause.__context__
    return None


def _reason(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "did not answer in time"
    return " ".join(str(error).split()) or type(error).__name__
