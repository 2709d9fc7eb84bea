"""Who gets what from the app: tokens, roles, rates, request ids, metrics, models that change."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import httpx
import numpy as np
import pytest

from veilseg.access import token_file
from veilseg.access.audit_log import AuditLog, verify
from veilseg.access.errors import AuditLogFailed
from veilseg.access.token_file import TokenFile
from veilseg.serving.app import create_app
from veilseg.serving.dataplane import DataPlane
from veilseg.serving.models import ServedModel
from veilseg.serving.repository import ModelRepository
from veilseg.serving.settings import Settings
from veilseg.serving.store import ModelStore
from veilseg.wire import InferRequest, Tensor, encode_request

INFER = "/v2/models/tiny/infer"


@pytest.fixture
def body(tile: np.ndarray) -> dict[str, Any]:
    sent = encode_request(InferRequest((Tensor("proxy", tile[np.newaxis].astype(np.float16)),)))
    return {"content": sent.body, "headers": sent.headers}


@pytest.fixture
def server(make_bundle: Callable[..., Path], runtime, tmp_path: Path) -> Callable[..., Any]:
    """An app with tokens of three roles, and everything it is made of."""

    def build(log: Any = None, **options: Any) -> SimpleNamespace:
        file = tmp_path / "tokens.json"
        tokens = {
            role: token_file.add(file, f"site-{role}", [role], 1)
            for role in ("infer", "metrics", "admin")
        }
        settings = Settings(**options)
        folder = tmp_path / "models"
        folder.mkdir()
        store = ModelStore([make_bundle()], folder, lambda half: ServedModel(half, "f32", runtime))
        plane = DataPlane(store.models, settings, log, store)
        app = create_app(plane, settings, TokenFile(file))

        def call(method: str, path: str, role: str | None = None, **request: Any) -> httpx.Response:
            headers = dict(request.pop("headers", {}))
            if role is not None:
                headers["Authorization"] = f"Bearer {tokens[role][0]}"

            async def run() -> httpx.Response:
                transport = httpx.ASGITransport(app=app)
                async with httpx.AsyncClient(transport=transport, base_url="http://s") as client:
                    return await client.request(method, path, headers=headers, **request)

            return anyio.run(run)

        return SimpleNamespace(
            call=call, file=file, tokens=tokens, plane=plane, folder=folder, app=app
        )

    return build


ROUTES = [
    ("GET", "/v2", {"infer", "admin"}),
    ("GET", "/v2/models/tiny", {"infer", "admin"}),
    ("GET", "/v2/models/tiny/ready", {"infer", "admin"}),
    ("GET", "/v2/models/tiny/versions/1.2.0/ready", {"infer", "admin"}),
    ("POST", INFER, {"infer"}),
    ("POST", "/v2/repository/index", {"admin"}),
    ("POST", "/v2/repository/models/tiny/load", {"admin"}),
    ("POST", "/v2/repository/models/tiny/unload", {"admin"}),
    ("GET", "/metrics", {"metrics"}),
]


def test_who_may_do_what(server, body):
    here = server()
    for path in ("/v2/health/live", "/v2/health/ready"):
        assert here.call("GET", path).status_code == 200
    for method, path, roles in ROUTES:
        request = body if path == INFER else {}
        missing = here.call(method, path, **request)
        assert missing.status_code == 401
        assert missing.headers["www-authenticate"] == "Bearer"
        assert missing.json() == {"error": "a token is needed: Authorization: Bearer TOKEN"}
        for role in ("infer", "metrics", "admin"):
            found = here.call(method, path, role, **request)
            if role in roles:
                assert found.status_code == 200, (path, role, found.text)
            else:
                assert found.status_code == 403
                assert found.json()["error"].startswith("this needs the role ")


def test_every_route_asks_who_it_is(server):
    here = server()
    asked = {path for _, path, _ in ROUTES}
    routes = {
        route.path.replace("{name}", "tiny").replace("{version}", "1.2.0")
        for route in here.app.routes
    }
    # The longer forms of the same places; and nothing else is there to be asked for.
    asked |= {"/v2/models/tiny/versions/1.2.0", "/v2/models/tiny/versions/1.2.0/infer"}
    assert routes == asked | {"/v2/health/live", "/v2/health/ready"}


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer veilseg_0_x", "é", "Bearer a b"]
)
def test_what_is_no_token(server, header: str):
    here = server()
    sent = {"Authorization": header.encode("latin-1")}
    assert here.call("GET", "/v2", headers=sent).status_code == 401


def test_tokens_change_without_a_restart(server, body):
    here = server()
    token, grant = here.tokens["infer"]
    fresh, _, _ = token_file.rotate(here.file, grant.id, grace_hours=1)
    for one in (token, fresh):
        found = here.call("GET", "/v2", headers={"authorization": f"bearer {one}"})
        assert found.status_code == 200
    token_file.revoke(here.file, grant.id)
    refused = here.call("POST", INFER, "infer", **body)
    assert (refused.status_code, refused.json()["error"]) == (401, "the token is revoked")
    here.file.write_text("{")
    found = here.call("GET", "/v2", headers={"authorization": f"Bearer {fresh}"})
    assert found.status_code == 200, "a broken file leaves the last good one"


def test_rates_are_per_site(server, body):
    here = server(rate_per_minute=1, rate_burst=2)
    statuses = [here.call("POST", INFER, "infer", **body) for _ in range(3)]
    assert [one.status_code for one in statuses] == [200, 200, 429]
    assert 50 <= int(statuses[2].headers["retry-after"]) <= 60
    other, _ = token_file.add(here.file, "other", ["infer"], 1)
    headers = body["headers"] | {"Authorization": f"Bearer {other}"}
    assert here.call("POST", INFER, content=body["content"], headers=headers).status_code == 200
    # Health and metadata are not counted.
    assert here.call("GET", "/v2/models/tiny", "infer").status_code == 200


def test_request_ids(server, caplog: pytest.LogCaptureFixture):
    here = server()
    with caplog.at_level(logging.INFO, logger="veilseg.serving"):
        given = here.call("GET", "/v2", "infer", headers={"X-Request-ID": "case-7.A"})
        assert given.headers["x-request-id"] == "case-7.A"
        made = {
            here.call("GET", "/v2", "infer", headers={"X-Request-ID": bad}).headers["x-request-id"]
            for bad in ("", "a b", "x" * 65, "Muster^Erika", 'a"b')
        }
    assert len(made) == 5
    assert all(len(one) == 32 for one in made)
    # Refusals have one too.
    assert len(here.call("GET", "/v2").headers["x-request-id"]) == 32
    assert "Muster" not in caplog.text


def test_metrics(server, body):
    here = server()
    here.call("POST", INFER, "infer", **body)
    here.call("POST", INFER, "admin", **body)
    here.call("GET", "/v2/models/secret-patient/ready", "infer")
    here.call("GET", "/nowhere/Muster^Erika")
    text = here.call("GET", "/metrics", "metrics").text
    infer = "/v2/models/{name}/infer"
    for line in (
        f'veilseg_requests_total{{route="{infer}",site="site-infer",status="200"}} 1.0',
        f'veilseg_requests_total{{route="{infer}",site="site-admin",status="403"}} 1.0',
        'veilseg_requests_total{route="none",site="",status="404"} 1.0',
        'veilseg_tiles_total{model="tiny",site="site-infer",version="1.2.0"} 1.0',
        f'veilseg_body_bytes_total{{site="site-infer"}} {float(len(body["content"]))}',
        'veilseg_batch_tiles_count{model="tiny",version="1.2.0"} 1.0',
        'veilseg_waiting_tiles{model="tiny",version="1.2.0"} 0.0',
        'veilseg_requests_inside{model="tiny",version="1.2.0"} 0.0',
        'veilseg_model_ready{model="tiny",version="1.2.0"} 1.0',
    ):
        assert line in text.splitlines()
    assert not any(word in text for word in ("secret", "Muster", here.tokens["infer"][0][-43:]))


def test_two_servers_count_apart(server, tmp_path: Path, make_bundle, runtime):
    one = server()
    one.call("GET", "/v2", "infer")
    other = DataPlane(one.plane._models)
    assert 'route="/v2"' in one.plane.metrics.text().decode()
    assert 'route="/v2"' not in other.metrics.text().decode()


def test_models_come_and_go(server, body, make_bundle: Callable[..., Path]):
    here = server()
    assert here.call("POST", INFER, "infer", **body).status_code == 200
    new = make_bundle(version="2.0")
    new.rename(here.folder / "tiny-2")
    index = here.call("POST", "/v2/repository/index", "admin").json()
    assert [(one["version"], one["state"]) for one in index] == [
        ("1.2.0", "READY"),
        ("2.0", "UNAVAILABLE"),
    ]
    ready = here.call("POST", "/v2/repository/index", "admin", json={"ready": True}).json()
    assert [one["version"] for one in ready] == ["1.2.0"]
    assert here.call("POST", "/v2/repository/models/tiny/load", "admin").status_code == 200
    metadata = here.call("GET", "/v2/models/tiny", "infer").json()
    assert metadata["versions"] == ["1.2.0", "2.0"]
    for version in ("1.2.0", "2.0"):
        found = here.call("POST", f"/v2/models/tiny/versions/{version}/infer", "infer", **body)
        assert found.json()["model_version"] == version
    assert here.call("POST", INFER, "infer", **body).json()["model_version"] == "2.0"
    assert here.call("POST", "/v2/repository/models/tiny/unload", "admin").status_code == 200
    assert here.call("POST", INFER, "infer", **body).status_code == 404
    again = here.call("POST", "/v2/repository/models/tiny/unload", "admin")
    assert (again.status_code, again.json()["error"]) == (404, "unknown model 'tiny'")
    assert here.call("POST", "/v2/repository/models/tiny/load", "admin").status_code == 200
    assert here.call("POST", INFER, "infer", **body).status_code == 200


@pytest.mark.parametrize(
    ("name", "content", "status", "reason"),
    [
        ("none", b"", 404, "unknown model 'none'"),
        ("..%2F..%2Fetc", b"", 404, "Not Found"),
        ("tiny", b"{", 400, "the body is no JSON"),
        ("tiny", b"[]", 400, "the body is no JSON object"),
        ("tiny", b'{"parameters": {"config": "{}"}}', 400, "models are loaded as they are on"),
        ("tiny", bytes(70000), 413, "more than the 65536 bytes"),
    ],
)
def test_commands_that_are_refused(server, name: str, content: bytes, status: int, reason: str):
    here = server()
    found = here.call("POST", f"/v2/repository/models/{name}/load", "admin", content=content)
    assert found.status_code == status
    assert reason in found.json()["error"]


def test_a_server_without_tokens_lets_nobody_change_its_models(model: ServedModel):
    app = create_app(DataPlane(ModelRepository([model])))

    async def run() -> list[int]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://s") as client:
            return [
                (await client.post("/v2/repository/index")).status_code,
                (await client.post("/v2/repository/models/tiny/unload")).status_code,
                (await client.get("/metrics")).status_code,
                (await client.get("/v2/models/tiny")).status_code,
            ]

    assert anyio.run(run) == [403, 403, 200, 200]


def test_what_is_written_down(server, body, tmp_path: Path):
    file = tmp_path / "audit.jsonl"
    with AuditLog(file) as log:
        here = server(log=log)
        here.call("POST", INFER, "infer", **body)
        here.call("POST", INFER, **body)
        here.call("POST", INFER, "infer", content=b"no request")
        here.call("POST", "/v2/repository/models/tiny/load", "admin")
        # What is no model's name is nowhere written.
        for action in ("load", "unload"):
            found = here.call("POST", f"/v2/repository/models/doe-jane/{action}", "admin")
            assert found.status_code == 404
    entries = [json.loads(line) for line in file.read_text().splitlines()]
    assert verify([file])[1].count == 2
    asked, loaded = entries
    _, grant = here.tokens["infer"]
    del asked["time"], asked["previous"]
    assert asked == {
        "n": 1,
        "action": "infer",
        "site": "site-infer",
        "token_id": grant.id,
        "model": "tiny",
        "version": "1.2.0",
        "bundle": here.plane._models.get("tiny").manifest.bundle_id,
        "tiles": 1,
        "bytes": len(body["content"]),
    }
    assert (loaded["action"], loaded["site"]) == ("load", "site-admin")
    assert not any(token[-43:] in file.read_text() for token, _ in here.tokens.values())


def test_what_cannot_be_written_down_is_not_computed(
    server, body, runtime, caplog: pytest.LogCaptureFixture
):
    class Full:
        def append(self, **fields: object) -> None:
            raise AuditLogFailed("/var/log/audit.jsonl: No space left on device")

    here = server(log=Full())
    computed = []
    runtime.behaviour = lambda answer: computed.append(1) or answer
    found = here.call("POST", INFER, "infer", **body)
    assert found.status_code == 503
    assert found.headers["retry-after"] == "1"
    assert found.json() == {"error": "requests cannot be written down at the moment"}
    assert computed == []
    assert "audit log: /var/log/audit.jsonl: No space left on device" in caplog.text
    assert here.call("POST", "/v2/repository/models/tiny/unload", "admin").status_code == 503
    assert here.call("GET", "/v2/models/tiny/ready", "infer").status_code == 200
