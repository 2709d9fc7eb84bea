"""One site's way to ask a collaboration service in this process."""

import base64
import hashlib
import json
from typing import Any

import anyio
import httpx
import numpy as np
from fastapi import FastAPI

from veilseg.contribution import PairFormat, ProtectedPair, encode_shard

FORMAT = PairFormat("tiny", "c" * 64, (6,), (4,), {"scheme": "encoding"})
KEY = "0123456789abcdef" * 2


def asked(app: FastAPI, method: str, path: str, **more: Any) -> httpx.Response:
    """One request, without a socket."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.request(method, path, **more)

    return anyio.run(send)


def shard_of(pairs: int = 2, value: float = 1.0) -> bytes:
    """A sound shard."""
    pair = ProtectedPair(np.full(6, value, np.float16), np.full(4, value, np.float16))
    return encode_shard([pair] * pairs)


class Site:
    """One site's way to ask."""

    def __init__(self, app: FastAPI, project: str, token: str) -> None:
        self.app, self.path = app, f"/v1/projects/{project}"
        self.token = token

    def ask(self, method: str, path: str = "", **more: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"} | more.pop("headers", {})
        return asked(self.app, method, self.path + path, headers=headers, **more)

    def begin(self, key: str = KEY, shards: int = 1, pairs: int = 2, digest: str = "c" * 64) -> Any:
        plan = {"client_digest": digest, "shards": shards, "pairs": pairs}
        return self.ask("PUT", f"/contributions/{key}", json=plan)

    def put(self, number: int, content: bytes, key: str = KEY, of: bytes | None = None) -> Any:
        digest = hashlib.sha256(content if of is None else of).digest()
        headers = {"Content-Digest": f"sha-256=:{base64.b64encode(digest).decode()}:"}
        path = f"/contributions/{key}/shards/{number}"
        return self.ask("PUT", path, content=content, headers=headers)

    def complete(self, key: str = KEY) -> Any:
        return self.ask("POST", f"/contributions/{key}/complete")

    def whole(self, key: str = KEY, value: float = 1.0) -> None:
        """Contribute one shard of two pairs."""
        answers = [self.begin(key), self.put(0, shard_of(2, value), key), self.complete(key)]
        assert [one.status_code for one in answers] == [200, 200, 200], answers[-1].text


def reason(answer: Any, status: int) -> str:
    """The one line of a refusal."""
    assert answer.status_code == status, answer.text
    return str(json.loads(answer.content)["error"])
