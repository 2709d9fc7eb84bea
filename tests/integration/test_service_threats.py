"""Every row of the threats to a service, against the real server over TLS with tokens.

One test for each: another tenant's objects, tokens, roles, sizes, shapes, values, bombs, rates,
paths, old TLS, logs, and what model files may be.
"""

import gzip
import json
import pickle
import re
import socket
import ssl
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import trustme
from processes import ServeProcess

from veilseg.access import token_file
from veilseg.access.tokens import Grant
from veilseg.bundle import open_server_half
from veilseg.errors import BundleIntegrity
from veilseg.serving.app import create_app
from veilseg.serving.dataplane import DataPlane
from veilseg.serving.models import ServedModel
from veilseg.serving.repository import ModelRepository
from veilseg.wire import InferRequest, Tensor, encode_request

INFER = "/v2/models/tiny/infer"


@dataclass(frozen=True)
class Service:
    """A server with a model and tokens, and what its clients need."""

    process: ServeProcess
    ca: Path
    tokens: dict[str, str]
    audit_log: Path

    def call(self, method: str, path: str, who: str | None = "site", **request: Any):
        headers = dict(request.pop("headers", {}))
        if who is not None:
            headers["Authorization"] = f"Bearer {self.tokens[who]}"
        context = ssl.create_default_context(cafile=self.ca)
        with httpx.Client(verify=context, timeout=120) as client:
            return client.request(method, self.process.url + path, headers=headers, **request)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, make_bundle) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    file = folder / "tokens.json"
    tokens = {
        who: token_file.add(file, who, [role], 1)[0]
        for who, role in (
            ("site", "infer"),
            ("watcher", "metrics"),
            ("hurried", "infer"),
            ("late", "infer"),
        )
    }
    expire(file, "late")
    config = folder / "serve.toml"
    config.write_text('log_format = "json"\nlog_level = "debug"\nrate_per_minute = 60\n')
    arguments = [make_bundle(), "--config", config, "--tokens", file]
    arguments += ["--tls-cert", folder / "server.pem", "--tls-key", folder / "server.pem"]
    arguments += ["--audit-log", folder / "audit.jsonl"]
    with ServeProcess(folder / "log", *arguments) as process:
        yield Service(process, folder / "ca.pem", tokens, folder / "audit.jsonl")


def expire(file: Path, site: str) -> None:
    document = json.loads(file.read_text())
    for fields in document["tokens"]:
        if fields["site"] == site:
            fields["expires"] = fields["issued"]
            Grant.from_json(fields)
    file.write_text(json.dumps(document))


@pytest.fixture
def sound(tile: np.ndarray) -> dict[str, Any]:
    return request_of(tile[np.newaxis].astype(np.float16))


def request_of(tiles: np.ndarray) -> dict[str, Any]:
    sent = encode_request(InferRequest((Tensor("proxy", tiles),)))
    return {"content": sent.body, "headers": sent.headers}


def refused(response: httpx.Response, status: int, reason: str) -> None:
    assert response.status_code == status, response.text
    assert reason in response.json()["error"]


def test_a_sound_request_is_answered(service: Service, sound):
    assert service.call("POST", INFER, **sound).status_code == 200


def test_there_are_no_objects_of_tenants(make_bundle):
    # Another tenant's object id meets 404: here it can, for no place takes an id but of models.
    app = create_app(DataPlane(ModelRepository()))
    taken = {name for route in app.routes for name in re.findall(r"{(\w+)}", route.path)}
    assert taken == {"name", "version"}


def test_missing_expired_and_unknown_tokens(service: Service, sound):
    refused(service.call("POST", INFER, None, **sound), 401, "a token is needed")
    refused(service.call("POST", INFER, "late", **sound), 401, "the token is expired")
    *known, last = service.tokens["site"]
    other = "".join([*known, "1" if last == "0" else "0"])
    headers = sound["headers"] | {"Authorization": f"Bearer {other}"}
    unknown = service.call("POST", INFER, None, content=sound["content"], headers=headers)
    refused(unknown, 401, "the token is unknown")


def test_the_wrong_role(service: Service, sound):
    refused(service.call("POST", INFER, "watcher", **sound), 403, "needs the role infer")
    refused(service.call("GET", "/metrics"), 403, "needs the role metrics")
    refused(service.call("POST", "/v2/repository/index"), 403, "needs the role admin")


def test_a_body_over_the_limit_before_it_is_buffered(service: Service):
    context = ssl.create_default_context(cafile=service.ca)
    with (
        socket.create_connection(service.process.address, timeout=60) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as line,
    ):
        head = f"POST {INFER} HTTP/1.1\r\nHost: s\r\nContent-Length: 100000000000\r\n"
        line.sendall(f"{head}Authorization: Bearer {service.tokens['site']}\r\n\r\n".encode())
        # Nothing of the body was sent, and yet it is refused.
        assert line.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_a_declared_shape_that_is_not_the_bytes(service: Service, sound):
    cut = service.call("POST", INFER, content=sound["content"][:-2], headers=sound["headers"])
    refused(cut, 400, "382 of its 384 bytes are there")
    wrong = sound["content"].replace(b'"binary_data_size":384', b'"binary_data_size":999')
    refused(
        service.call("POST", INFER, content=wrong, headers=sound["headers"]), 400, "is not the 384"
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers(service: Service, tile: np.ndarray, value: float):
    tiles = tile[np.newaxis].astype(np.float16)
    tiles[0, 0, 1, 2, 3] = value
    refused(service.call("POST", INFER, **request_of(tiles)), 400, "holds NaN or infinity")


def test_a_decompression_bomb(service: Service, sound):
    bomb = gzip.compress(bytes(100_000_000))
    assert len(bomb) < 100_000
    headers = sound["headers"] | {"Content-Encoding": "gzip"}
    bombed = service.call("POST", INFER, content=bomb[:60_000], headers=headers)
    refused(bombed, 413, "more than the ")


def test_the_rate_limit(service: Service):
    # Read up to the rate: a request that is no request costs the server nothing to compute.
    found = [service.call("POST", INFER, "hurried", content=b"x") for _ in range(102)]
    over = [one for one in found if one.status_code == 429]
    assert over
    assert {one.status_code for one in found} == {400, 429}
    refused(over[0], 429, "too many requests of this site")
    assert int(over[0].headers["retry-after"]) >= 1
    assert service.call("POST", INFER, content=b"x").status_code == 400, "another site goes on"


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/..%2F..%2Fetc%2Fpasswd",
        "/v2/models/tiny/versions/..%2F..%2F1",
        "/v2/models/%2e%2e%5c%2e%2e",
        "/v2/models/tiny%00",
        "/v2/../etc/passwd",
    ],
)
def test_path_traversal(service: Service, path: str):
    found = service.call("GET", path)
    assert found.status_code == 404
    assert list(found.json()) == ["error"]
    assert "passwd" not in found.text.replace("etc/passwd'", "")


def test_tls_below_1_2(service: Service):
    def handshake(version: ssl.TLSVersion) -> str | None:
        context = ssl.create_default_context(cafile=service.ca)
        # Without this the client's OpenSSL would refuse by itself, and prove nothing.
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            context.minimum_version = context.maximum_version = version
        with (
            socket.create_connection(service.process.address, timeout=60) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as line,
        ):
            return line.version()

    assert handshake(ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    assert handshake(ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    for old in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        # asyncio closes without an alert; that it is the version, tests/unit/serving shows.
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            handshake(old)


def test_logs_hold_nothing_that_should_not_be_there(service: Service, tile: np.ndarray):
    rng = np.random.default_rng(5)
    tiles = rng.random((1, *tile.shape)).astype(np.float16)
    marked = request_of(tiles)
    marked["headers"] = marked["headers"] | {
        "X-Request-ID": "Muster^Erika",
        "User-Agent": "patient-zq4711",
        "X-Patient": "zq4711-birthday",
    }
    assert service.call("POST", INFER, **marked).status_code == 200
    service.call("POST", "/v2/models/Muster%5EErika/infer", **marked)
    service.call("GET", "/v2/patients/Muster-Erika?name=Muster")
    refused(service.call("POST", INFER, **request_of(tiles * np.float16(np.nan))), 400, "NaN")
    metrics = service.call("GET", "/metrics", "watcher").text
    log, audited = service.process.text, service.audit_log.read_text()
    assert '"model": "tiny"' in log, "the positive control: it does log"
    assert 'model="tiny"' in metrics
    assert '"tiny"' in audited
    assert '"site"' in audited
    # With letters that no request id has: a short number stands in one of them now and then.
    for secret in ("Muster", "zq4711", *(token[-43:] for token in service.tokens.values())):
        for told in (log, metrics, audited):
            assert secret not in told
    assert tiles.tobytes().decode("latin-1") not in service.process.log.read_text("latin-1")
    # Nor as text, in whatever way an array library would quote a row of it.
    digits = [re.escape(f"{value:.3g}"[:4]) for value in tiles[0, 0, 0, 0, :3]]
    assert not re.search(r"\d*[\s,\[]+".join(digits), log)
    for line in log.splitlines():
        if line.startswith("{"):
            assert "time" in json.loads(line)


def test_model_files_are_pinned_and_never_unpickled(make_bundle, tmp_path: Path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    bomb = pickle.dumps(Bomb())
    bundle = make_bundle()
    half = open_server_half(bundle)
    half.model_file.write_bytes(bomb)
    with pytest.raises(BundleIntegrity, match="SHA-256 differs"):
        open_server_half(bundle)
    # Even sealed as if it belonged there, a pickle is no model and no self-test.
    for options in ({"model": bomb}, {"selftest": bomb}):
        model = ServedModel(open_server_half(make_bundle(**options)))
        assert model.failure is not None
    assert not (tmp_path / "ran").exists()
    pickle.loads(bomb)
    assert (tmp_path / "ran").exists(), "the positive control: unpickled, it goes off"
