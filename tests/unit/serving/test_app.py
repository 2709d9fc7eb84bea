"""HTTP without sockets: statuses, limits, and that health never waits for a network."""

import logging
import threading
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import numpy as np
import pytest

from veilseg.bundle import open_server_half
from veilseg.serving.app import create_app
from veilseg.serving.dataplane import DataPlane
from veilseg.serving.models import ServedModel
from veilseg.serving.repository import ModelRepository
from veilseg.serving.settings import Settings
from veilseg.wire import InferRequest, Message, Tensor, decode_answer, encode_request
from veilseg.wire.infer import HEADER_LENGTH

INFER = "/v2/models/tiny/infer"


def call(
    model: ServedModel, method: str, path: str, *, options: dict[str, Any] | None = None, **request
) -> httpx.Response:
    async def run() -> httpx.Response:
        async with client_of(app_of(model, **(options or {}))) as client:
            return await client.request(method, path, **request)

    return anyio.run(run)


def app_of(*models: ServedModel, **options: Any) -> Any:
    settings = Settings(**options)
    return create_app(DataPlane(ModelRepository(models), settings), settings)


def client_of(app: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app)
    headers = {"accept-encoding": "identity"}
    return httpx.AsyncClient(transport=transport, base_url="http://server", headers=headers)


def message(array: np.ndarray, name: str = "proxy", **fields: Any) -> Message:
    return encode_request(InferRequest((Tensor(name, array),), **fields))


def error_of(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    return response.json()["error"]


@pytest.fixture
def tiles(tile: np.ndarray) -> np.ndarray:
    return tile[np.newaxis].astype(np.float16)


def post(model: ServedModel, sent: Message, path: str = INFER, **request: Any) -> httpx.Response:
    return call(model, "POST", path, content=sent.body, headers=sent.headers, **request)


@pytest.mark.parametrize(
    "path", [INFER, *(f"/v2/models/tiny/versions/{v}/infer" for v in ("1.2.0", "1"))]
)
def test_infer(model: ServedModel, tiles: np.ndarray, path: str):
    response = post(model, message(tiles, binary_outputs=True, id="7"), path)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/octet-stream"
    answer = decode_answer(response.content, response.headers[HEADER_LENGTH])
    assert (answer.model_name, answer.model_version, answer.id) == ("tiny", "1.2.0", "7")
    assert answer.parameters == {"bundle_id": model.manifest.bundle_id}
    expected = np.concatenate([1 - tiles, tiles], axis=1)
    np.testing.assert_array_equal(answer.outputs[0].array, expected)


def test_without_asking_for_binary_the_answer_is_json(model: ServedModel, tiles: np.ndarray):
    response = post(model, message(tiles))
    assert HEADER_LENGTH not in response.headers
    assert response.json()["outputs"][0]["shape"] == [1, 2, 8, 6, 4]


def test_batches(model: ServedModel, tiles: np.ndarray):
    batch = np.concatenate([tiles, 1 - tiles])
    response = post(model, message(batch))
    assert response.json()["outputs"][0]["shape"] == [2, 2, 8, 6, 4]
    reason = error_of(post(model, message(np.repeat(tiles, 9, axis=0))), 400)
    assert "n from 1 to 8" in reason


def test_documents(model: ServedModel):
    assert call(model, "GET", "/v2").json()["extensions"] == [
        "binary_tensor_data",
        "model_repository",
    ]
    assert call(model, "GET", "/v2/health/live").json() == {"live": True}
    assert call(model, "GET", "/v2/health/ready").json() == {"ready": True}
    ready = call(model, "GET", "/v2/models/tiny/versions/1.2.0/ready").json()
    assert ready == {"name": "tiny", "ready": True}
    metadata = call(model, "GET", "/v2/models/tiny").json()
    assert metadata == call(model, "GET", "/v2/models/tiny/versions/1").json()
    assert metadata["versions"] == ["1.2.0"]
    assert metadata["inputs"] == [{"name": "proxy", "datatype": "FP16", "shape": [-1, 1, 8, 6, 4]}]
    assert metadata["parameters"] == {
        "bundle_id": model.manifest.bundle_id,
        "precision": "f32",
        "max_batch": 8,
    }


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/other",
        "/v2/models/tiny/versions/2",
        "/v2/models/other/ready",
        "/v2/models/..%2F..%2Fetc%2Fpasswd",
        "/v2/models/%2e%2e/versions/1",
        "/v2/models/tiny/versions/..%2F1",
        "/v2/models/tiny/versions/%00",
        "/docs",
        "/redoc",
        "/openapi.json",
        "/",
    ],
)
def test_unknown_places(model: ServedModel, path: str):
    reason = error_of(call(model, "GET", path), 404)
    assert "tiny/" not in reason


def test_unknown_models_do_not_infer(model: ServedModel, tiles: np.ndarray):
    reason = error_of(post(model, message(tiles), "/v2/models/other/infer"), 404)
    assert reason == "unknown model 'other'"
    error_of(post(model, message(tiles), "/v2/models/tiny/versions/..%2F1/infer"), 404)
    error_of(call(model, "GET", INFER), 405)


def test_bad_requests(model: ServedModel, tiles: np.ndarray):
    whole = message(tiles)
    for sent, reason in (
        (message(tiles * np.float16("nan")), "holds NaN or infinity"),
        (message(tiles[..., :3]), "is not [n, 1, 8, 6, 4]"),
        (message(tiles, "image"), "expected proxy alone"),
        (Message(whole.body + b"x", whole.header_length), "1 bytes are left over"),
        (Message(b"no JSON", None), "not JSON"),
    ):
        assert reason in error_of(post(model, sent), 400)


def test_a_body_too_large_is_not_read(model: ServedModel):
    chunks_taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal chunks_taken
        while True:
            chunks_taken += 1
            yield bytes(10_000)

    limit = {"max_body_bytes": 100_000}
    declared = call(model, "POST", INFER, content=bytes(100_001), options=limit)
    assert "more than the 100000 bytes" in error_of(declared, 413)
    # ASGITransport hands over chunks as they are taken: what is read can be counted.
    error_of(call(model, "POST", INFER, content=endless(), options=limit), 413)
    assert chunks_taken <= 12
    declared_only = {"content-length": "100001"}
    chunks_taken = 0
    call(model, "POST", INFER, content=endless(), headers=declared_only, options=limit)
    assert chunks_taken == 0


def test_the_limit_follows_from_the_models(model: ServedModel, tiles: np.ndarray):
    assert post(model, message(np.repeat(tiles, 8, axis=0))).status_code == 200
    error_of(call(model, "POST", INFER, content=bytes(65536 + 192 * 24 + 1)), 413)


def test_encodings(model: ServedModel, tiles: np.ndarray):
    headers = {"content-encoding": "br"}
    assert "use gzip" in error_of(call(model, "POST", INFER, content=b"x", headers=headers), 415)
    headers = {"content-encoding": "gzip"}
    assert "damaged" in error_of(call(model, "POST", INFER, content=b"xy", headers=headers), 400)


def test_a_model_that_is_not_ready(make_bundle, runtime, tiles: np.ndarray):
    bundles = [make_bundle(name="good"), make_bundle(name="bad", selftest=b"none")]
    models = [ServedModel(open_server_half(b), "f32", runtime) for b in bundles]
    sent = message(tiles)

    async def run() -> dict[str, httpx.Response]:
        async with client_of(app_of(*models)) as client:
            return {
                path: await client.request(
                    "POST" if path.endswith("infer") else "GET",
                    path,
                    content=sent.body,
                    headers=sent.headers,
                )
                for path in (
                    "/v2/health/live",
                    "/v2/health/ready",
                    "/v2/models/good/ready",
                    "/v2/models/good/infer",
                    "/v2/models/bad/ready",
                    "/v2/models/bad/infer",
                    "/v2/models/bad",
                )
            }

    responses = anyio.run(run)
    statuses = [response.status_code for response in responses.values()]
    assert statuses == [200, 503, 200, 200, 503, 503, 200]
    assert error_of(responses["/v2/models/bad/infer"], 503) == "model bad is not ready"


def test_failures_quote_no_data(
    model: ServedModel, runtime, tiles: np.ndarray, caplog: pytest.LogCaptureFixture, monkeypatch
):
    def breaks(answer: np.ndarray) -> np.ndarray:
        raise ValueError(f"pixels {answer.ravel()[:5]}")

    runtime.behaviour = breaks
    with caplog.at_level(logging.DEBUG):
        assert error_of(post(model, message(tiles)), 500) == "the model failed"
        monkeypatch.setattr(
            "veilseg.serving.requests.decode_request",
            lambda *_: breaks(tiles),
        )
        assert error_of(post(model, message(tiles)), 500) == "internal error"
    assert "request failed: ModelError" in caplog.text
    assert "request failed: ValueError" in caplog.text
    # The source line of the traceback reads f"pixels {answer...}"; its values are not there.
    assert "pixels [" not in caplog.text


def test_no_pixels_in_the_log_of_a_good_request(
    model: ServedModel, tiles: np.ndarray, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.DEBUG):
        post(model, message(tiles))
    (line,) = [one for one in caplog.records if one.getMessage() == "answered"]
    fields = line.fields
    assert {key: fields[key] for key in ("route", "status", "site", "model", "tiles")} == {
        "route": INFER.replace("tiny", "{name}"),
        "status": 200,
        "site": "anonymous",
        "model": "tiny",
        "tiles": 1,
    }
    assert not any(str(value) in caplog.text for value in tiles.ravel() if len(str(value)) > 5)


def test_health_answers_while_a_network_computes_and_the_queue_is_bounded(
    model: ServedModel, runtime, tiles: np.ndarray
):
    computing, go_on = threading.Event(), threading.Event()
    at_once: list[int] = []
    running = 0

    def slow(answer: np.ndarray) -> np.ndarray:
        nonlocal running
        running += 1
        at_once.append(running)
        computing.set()
        assert go_on.wait(20)
        running -= 1
        return answer

    runtime.behaviour = slow
    sent = message(tiles)

    async def run() -> list[int]:
        statuses: list[int] = []
        app = app_of(model, queue_places=2)
        async with client_of(app) as client, anyio.create_task_group() as tasks:

            async def infer() -> None:
                response = await client.post(INFER, content=sent.body, headers=sent.headers)
                statuses.append(response.status_code)

            tasks.start_soon(infer)
            tasks.start_soon(infer)
            await anyio.to_thread.run_sync(computing.wait, 20)
            with anyio.fail_after(5):
                assert (await client.get("/v2/health/live")).status_code == 200
                assert (await client.get("/v2/models/tiny/ready")).status_code == 200
                busy = await client.post(INFER, content=sent.body, headers=sent.headers)
            assert "too many requests" in error_of(busy, 429)
            assert busy.headers["retry-after"] == "1"
            go_on.set()
        return statuses

    assert anyio.run(run) == [200, 200]
    assert at_once == [1, 1]


def test_a_body_that_does_not_arrive(model: ServedModel):
    async def stuck() -> AsyncIterator[bytes]:
        yield b"{"
        await anyio.sleep(20)

    response = call(model, "POST", INFER, content=stuck(), options={"body_timeout_s": 0.05})
    assert "did not arrive in time" in error_of(response, 408)


def test_what_a_client_left_behind_is_not_computed(model: ServedModel, runtime, tiles: np.ndarray):
    computed: list[float] = []
    busy, go_on = threading.Event(), threading.Event()

    def slow(answer: np.ndarray) -> np.ndarray:
        computed.append(float(answer.ravel()[0]))
        busy.set()
        assert go_on.wait(60)
        return answer

    runtime.behaviour = slow
    plane = DataPlane(ModelRepository([model]))
    app = create_app(plane)
    first, second, third = (message(np.full_like(tiles, value)) for value in (0.5, 0.25, 0.75))
    left = anyio.Event()
    sent: list[dict[str, Any]] = []

    async def leaving() -> None:
        parts = [{"type": "http.request", "body": second.body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if parts:
                return parts.pop()
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(part: dict[str, Any]) -> None:
            sent.append(part)

        headers = [
            (name.lower().encode(), value.encode()) for name, value in second.headers.items()
        ]
        scope = {"type": "http", "method": "POST", "path": INFER, "headers": headers}
        await app({**scope, "query_string": b"", "state": {}}, receive, send)

    async def run() -> None:
        async with client_of(app) as client, anyio.create_task_group() as tasks:

            async def infer(one: Message) -> None:
                answer = await client.post(INFER, content=one.body, headers=one.headers)
                assert answer.status_code == 200

            tasks.start_soon(infer, first)
            await anyio.to_thread.run_sync(busy.wait, 60)
            async with anyio.create_task_group() as others:
                others.start_soon(leaving)
                while plane.running < 2:
                    await anyio.sleep(0.01)
                left.set()
            assert plane.running == 1
            tasks.start_soon(infer, third)
            while plane.running < 2:
                await anyio.sleep(0.01)
            go_on.set()

    anyio.run(run)
    assert computed == [0.5, 0.25]
    assert sent[0]["status"] == 499
    plane.close()


def test_a_deadline_that_passes_while_the_network_computes(
    model: ServedModel, runtime, tiles: np.ndarray
):
    go_on = threading.Event()

    def slow(answer: np.ndarray) -> np.ndarray:
        assert go_on.wait(60)
        return answer

    runtime.behaviour = slow
    late = post(model, message(tiles), options={"deadline_s": 0.1})
    go_on.set()
    assert error_of(late, 504) == "the answer was not computed in time"
