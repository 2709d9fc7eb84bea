"""A collaboration service, seen from a site."""

import base64
import hashlib
import json
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import httpx

from veilseg.client.credentials import TOKEN_VARIABLE, Credentials
from veilseg.client.transfer import Reply, Transfer
from veilseg.errors import InvalidAnswer, ServerRefused, WrongUsage

DOCUMENT_BYTES: Final = 16 * 2**20
# What answers hold: a kind, the fields of a document, or a list of one of these.
FIT: Final = {
    "state": str,
    "step": int,
    "steps": int,
}
CURVE: Final = [{"step": int, "loss": float}]
PROJECT: Final = {
    "project": str,
    "state": str,
    "format": dict,
    "pairs": int,
    "versions": [{"number": int, "created": int}],
    "fit": (FIT, None),
}
CONTRIBUTIONS: Final = {"contributions": [{"key": str, "state": str, "pairs": int}]}
BEGUN: Final = {"shards": dict}
WITHDRAWN: Final = {"withdrawn_shards": int, "deleted_shards": int}
TOKEN: Final = {"token": str}
TIMEOUT_S: Final = 120.0
RETRIES: Final = 6


class ProjectClient:
    """What a site may ask of a project. A context manager.

    Parameters
    ----------
    url : str
        Of the collaboration service.
    project : str
    credentials : Credentials
        Of this site; a token is needed.
    transport : httpx.BaseTransport, optional
        In place of the network, for tests.

    Raises
    ------
    InvalidInput
        If the URL cannot be used, or a token would go over ``http://`` to another machine.
    WrongUsage
        If there is no token.

    Leaks
    -----
    To the server: the shards, how many and when, and which site they are of.
    """

    def __init__(
        self,
        url: str,
        project: str,
        credentials: Credentials,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        if not credentials.token:
            raise WrongUsage(f"--token-file: give the site's token, or set {TOKEN_VARIABLE}")
        self._transfer = Transfer(url, TIMEOUT_S, RETRIES, transport, credentials)
        self._path = f"/v1/projects/{quote(project, safe='')}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._transfer.close()

    @property
    def bytes_sent(self) -> int:
        """Bytes of all request bodies."""
        return self._transfer.bytes_sent

    def describe(self) -> dict[str, Any]:
        """State, format of pairs, versions and the newest fit.

        Raises
        ------
        ServerUnreachable
            If there is no connection within the retries; so do all methods.
        ServerRefused
            If the service says no; its reason is told.
        InvalidAnswer
            If it answers with something else than a document.
        """
        found = self._asked("GET", "", of=PROJECT)
        if found["fit"] and not _holds(found["fit"].setdefault("curve", []), CURVE):
            raise InvalidAnswer(f"{self._transfer.url}: answers with no document of a project")
        return found

    def contributions(self) -> list[dict[str, Any]]:
        """This site's, the newest first."""
        return list(self._asked("GET", "/contributions", of=CONTRIBUTIONS)["contributions"])

    def begin(self, key: str, client_digest: str, shards: int, pairs: int) -> set[int]:
        """Announce a contribution; gives the numbers of shards that are there already."""
        plan = {"client_digest": client_digest, "shards": shards, "pairs": pairs}
        body = json.dumps(plan).encode()
        known = self._asked("PUT", f"/contributions/{key}", body, of=BEGUN)["shards"]
        try:
            return {int(number) for number in known}
        except ValueError as error:
            raise InvalidAnswer(f"{self._transfer.url}: answers with no document") from error

    def put_shard(self, key: str, number: int, content: bytes) -> None:
        """Send a shard; sent a second time it changes nothing."""
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        headers = {
            "Content-Digest": f"sha-256=:{digest}:",
            "Content-Type": "application/octet-stream",
        }
        self._asked("PUT", f"/contributions/{key}/shards/{number}", content, headers)

    def complete(self, key: str) -> dict[str, Any]:
        """Say that all is there."""
        return self._asked("POST", f"/contributions/{key}/complete")

    def withdraw(self, key: str) -> tuple[int, int]:
        """Take a contribution back; gives how many shards it had, and how many are deleted now."""
        found = self._asked("DELETE", f"/contributions/{key}", of=WITHDRAWN)
        return int(found["withdrawn_shards"]), int(found["deleted_shards"])

    def server_manifest(self, number: int) -> bytes:
        """Of a version's server half."""
        path = f"{self._path}/versions/{number}/manifest"
        return self._require_ok(self._transfer.get(path, DOCUMENT_BYTES)).body

    def rotate_token(self) -> str:
        """A new token in the place of this one, which ends within the hour."""
        return str(self._asked("POST", "/token", of=TOKEN)["token"])

    def _asked(
        self,
        method: str,
        path: str,
        content: bytes = b"",
        headers: dict[str, str] | None = None,
        of: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The answer, a document with at least what ``of`` says."""
        given = headers or {"Content-Type": "application/json"}
        sent = self._transfer.send(method, self._path + path, content, given, DOCUMENT_BYTES)
        reply = self._require_ok(sent)
        try:
            found: dict[str, Any] = json.loads(reply.body)
        except (ValueError, RecursionError) as error:
            raise InvalidAnswer(f"{self._transfer.url}: answers with no document") from error
        if not _holds(found, of or {}):
            raise InvalidAnswer(f"{self._transfer.url}: answers with no document of a project")
        return found

    def _require_ok(self, reply: Reply) -> Reply:
        if reply.status != httpx.codes.OK:
            raise ServerRefused(f"{self._transfer.url}: {reply.error_text}")
        return reply


def _holds(value: Any, form: Any) -> bool:
    """Whether what a service answered has this form."""
    if isinstance(form, dict):
        return isinstance(value, dict) and all(
            name in value and _holds(value[name], one) for name, one in form.items()
        )
    if isinstance(form, list):
        return isinstance(value, list) and all(_holds(one, form[0]) for one in value)
    if isinstance(form, tuple):
        return any(_holds(value, one) for one in form)
    return value is None if form is None else type(value) is form
