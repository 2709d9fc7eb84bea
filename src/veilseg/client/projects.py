"""A collaboration service, seen from a site."""

import base64
import hashlib
import json
from collections.abc import Set
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import httpx

from veilseg.client.credentials import TOKEN_VARIABLE, Credentials
from veilseg.client.transfer import Reply, Transfer
from veilseg.errors import InvalidAnswer, ServerRefused, WrongUsage

DOCUMENT_BYTES: Final = 16 * 2**20
PROJECT: Final = frozenset({"project", "state", "format", "pairs", "versions", "fit"})
WITHDRAWN: Final = frozenset({"withdrawn_shards", "deleted_shards"})
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
        return self._asked("GET", "", of=PROJECT)

    def contributions(self) -> list[dict[str, Any]]:
        """This site's, the newest first."""
        found = self._asked("GET", "/contributions", of={"contributions"})["contributions"]
        return list(found)

    def begin(self, key: str, client_digest: str, shards: int, pairs: int) -> dict[str, Any]:
        """Announce a contribution; what is there of it already comes back."""
        plan = {"client_digest": client_digest, "shards": shards, "pairs": pairs}
        body = json.dumps(plan).encode()
        return self._asked("PUT", f"/contributions/{key}", body, of={"shards"})

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
        return str(self._asked("POST", "/token", of={"token"})["token"])

    def _asked(
        self,
        method: str,
        path: str,
        content: bytes = b"",
        headers: dict[str, str] | None = None,
        of: Set[str] = frozenset(),
    ) -> dict[str, Any]:
        """The answer, a document with at least the fields ``of``."""
        given = headers or {"Content-Type": "application/json"}
        sent = self._transfer.send(method, self._path + path, content, given, DOCUMENT_BYTES)
        reply = self._require_ok(sent)
        try:
            found = json.loads(reply.body)
        except (ValueError, RecursionError) as error:
            raise InvalidAnswer(f"{self._transfer.url}: answers with no document") from error
        if not isinstance(found, dict) or not of <= found.keys():
            raise InvalidAnswer(f"{self._transfer.url}: answers with no document of a project")
        return found

    def _require_ok(self, reply: Reply) -> Reply:
        if reply.status != httpx.codes.OK:
            raise ServerRefused(f"{self._transfer.url}: {reply.error_text}")
        return reply
