"""Requests that cannot be answered, and how: one line and a documented status."""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import anyio
import httpx
import numpy as np
import phantoms
import pytest
from fastapi import FastAPI
from refusals import refused

from veilseg.access import token_file
from veilseg.access.token_file import TokenFile
from veilseg.bundle import open_client_half
from veilseg.errors import ServerUnreachable, VaultIntegrity, WrongUsage
from veilseg.gateway.app import create_app
from veilseg.gateway.errors import Cancelled
from veilseg.gateway.jobs import Jobs
from veilseg.gateway.segmenting import Segmenter, Subject
from veilseg.gateway.settings import Settings
from veilseg.gateway.site import open_site
from veilseg.schemes.plain.client import PlainClient

MODEL = "phantom-plain"


class Away:
    """No server is there."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __enter__(self) -> None:
        raise self.error

    def __exit__(self, *exception: object) -> None:
        pass


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory):
    bundle = phantoms.make_bundle(tmp_path_factory.mktemp("bundles") / "plain", "plain")
    return open_client_half(bundle).manifest


@pytest.fixture
def opened(tmp_path: Path, manifest) -> Iterator[Any]:
    """Make an app with limits; what computes is NumPy, or fails."""
    (tmp_path / "data").mkdir()
    phantoms.write_nifti(tmp_path / "data" / "head.nii.gz", phantoms.raw_image(phantoms.truth()))
    (tmp_path / "data" / "broken.nii.gz").write_bytes(b"nothing")
    with ExitStack() as open_until_the_end:

        def open_app(
            error: Exception | None = None, tokens: TokenFile | None = None, **limits: Any
        ) -> FastAPI:
            def connect(_):
                return Away(error) if error else nullcontext(phantoms.nearest_centre)

            segmenter = Segmenter(manifest, PlainClient(), connect)
            settings = Settings(data=tmp_path / "data", work=tmp_path, **limits)
            site = open_until_the_end.enter_context(open_site([segmenter], settings, tokens))
            return create_app(site)

        yield open_app


def asked(app: FastAPI, method: str, path: str, **more: Any) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, path, **more)

    return anyio.run(send)


INFER = f"/infer/{MODEL}"


@pytest.mark.parametrize(
    ("path", "params", "files", "status", "line"),
    [
        (INFER, {}, None, 400, "image, session_id, file: give one of them"),
        (f"{INFER}?image=head", "{", None, 400, "params: no JSON"),
        (f"{INFER}?image=head", "[]", None, 400, "params: no JSON object"),
        (
            f"{INFER}?image=head",
            {"result_extension": ".mha"},
            None,
            400,
            "result_extension: there is .nrrd, .nii.gz, .nii",
        ),
        (
            f"{INFER}?image=head",
            {"result_extension": [".nrrd"]},
            None,
            400,
            "result_extension: there is .nrrd, .nii.gz, .nii",
        ),
        (
            f"{INFER}?image=head",
            {"result_dtype": "float64"},
            None,
            400,
            "result_dtype: there is uint8, uint16, int16",
        ),
        (
            f"{INFER}?image=head",
            {"subject": "x" * 257},
            None,
            400,
            "subject: no text of up to 256 characters",
        ),
        (
            f"{INFER}?image=head&output=video",
            {},
            None,
            400,
            "output: there is all, json, image, dicom_seg",
        ),
        (f"{INFER}?image=broken", {}, None, 400, "broken.nii.gz: not a NIfTI image"),
        (INFER, {}, ("Erika.nii.gz", b"x" * 400), 400, "image.nii.gz: not a NIfTI image"),
        (INFER, {}, ("Erika.zip", b"x" * 400), 400, "image.zip: not a zip, damaged or truncated"),
        (
            f"{INFER}?image=head&output=dicom_seg",
            {},
            None,
            400,
            "head.nii.gz: not a DICOM image",
        ),
        ("/infer/other?image=head", {}, None, 404, "model: no model of that name here"),
        (f"{INFER}?image=none", {}, None, 404, "image: no image of that name here"),
        (f"{INFER}?image=../data/head", {}, None, 404, "image: no image of that name here"),
        (
            f"{INFER}?session_id=x",
            {},
            None,
            404,
            "session: no such session, or it was deleted",
        ),
        (
            "/train/segmentation",
            {},
            None,
            501,
            "this gateway segments; it neither trains nor keeps labels",
        ),
    ],
)
def test_requests_that_cannot_be_answered(opened, path, params, files, status, line):
    text = params if isinstance(params, str) else json.dumps(params)
    upload = None if files is None else {"file": files}
    answer = asked(opened(), "POST", path, data={"params": text}, files=upload)
    assert refused(answer, status) == line


def test_bodies_beyond_limits(opened):
    app = opened(upload_bytes=1500, stored_bytes=700, upload_files=2)
    one = ("files", ("a.nii.gz", bytes(400)))
    assert refused(asked(app, "PUT", "/session/", files=[one, one, one]), 413)
    assert refused(asked(app, "PUT", "/session/", files=[one] * 2), 507)
    small = [("files", ("a.nii.gz", bytes(4)))] * 3
    assert "Too many files" in refused(asked(app, "PUT", "/session/", files=small), 400)
    assert refused(asked(app, "PUT", "/session/", files=[]), 400) == "files: there is none"
    assert refused(asked(app, "PUT", "/session/?expiry=soon", files=[one]), 400) == (
        "expiry: missing or malformed"
    )
    head = {"X-Long": "x" * 20000}
    assert asked(app, "GET", "/info/", headers=head).status_code == 431


def test_a_body_that_stalls_ends_in_time_and_leaves_nothing(opened, tmp_path):
    app = opened(body_timeout_s=0.3)

    async def stalled() -> httpx.Response:
        async def body():
            yield b'--cut\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nxx'
            await anyio.sleep(30)

        headers = {"Content-Type": "multipart/form-data; boundary=cut"}
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.put("/session/", content=body(), headers=headers)

    assert refused(anyio.run(stalled), 408) == "the body did not arrive in time"
    assert not list(tmp_path.rglob("incoming-*"))


def test_who_shows_no_token_yet_sends_two_words_and_no_file(opened, tmp_path):
    token_file.add(tmp_path / "tokens.json", "ward", ["infer"], 1)
    app = opened(tokens=TokenFile(tmp_path / "tokens.json"), upload_bytes=10**9)
    much = {"password": "x" * 70_000}
    assert refused(asked(app, "POST", "/auth/token", data=much), 413)
    file = {"file": ("a.nii.gz", b"x")}
    answer = asked(app, "POST", "/auth/token", data={"password": "x"}, files=file)
    assert "Too many files" in refused(answer, 400)
    assert refused(asked(app, "POST", "/auth/token", data={"password": "x"}), 401)


def test_when_it_cannot_segment(opened, caplog):
    away = opened(ServerUnreachable("http://server: no connection"))
    answer = asked(away, "POST", f"{INFER}?image=head")
    assert refused(answer, 502) == "http://server: no connection"
    broken = opened(VaultIntegrity("/secret/vault: damaged"))
    answer = asked(broken, "POST", f"{INFER}?image=head")
    assert refused(answer, 500) == "this gateway cannot segment at the moment; its log says why"
    assert "/secret/vault: damaged" in caplog.text
    full = asked(opened(places=0), "POST", f"{INFER}?image=head")
    assert refused(full, 429) == "too many images are being segmented: try again"
    assert full.headers["retry-after"] == "1"
    late = asked(opened(deadline_s=0), "POST", f"{INFER}?image=head")
    assert refused(late, 504) == "the image was not segmented in time"


def test_outputs(opened):
    app = opened()
    found = asked(app, "POST", f"{INFER}?image=head.nii.gz&output=json").json()
    assert found["label_names"] == {"shell": 1, "core": 2}
    assert found["model"] == MODEL
    whole = asked(app, "POST", f"{INFER}?image=head")
    assert whole.headers["content-type"].startswith("multipart/form-data; boundary=")
    params = json.dumps({"result_extension": ".nii", "result_dtype": "int16"})
    image = asked(app, "POST", f"{INFER}?image=head&output=image", data={"params": params})
    assert re.search(r'filename="[0-9a-f-]{36}\.nii"$', image.headers["content-disposition"])
    labels = np.frombuffer(image.content[352:], "<i2")
    np.testing.assert_array_equal(labels, phantoms.truth().ravel(order="F"))


def test_two_programs_do_not_share_what_they_call_an_image(opened, tmp_path):
    app = opened()
    truths = {"a": phantoms.truth((14, 12, 13)), "b": phantoms.truth((11, 12, 13))}
    for client, truth in truths.items():
        scan = phantoms.write_nifti(tmp_path / "scan.nii", phantoms.raw_image(truth))
        params, file = json.dumps({"client_id": client}), ("x.nii", scan.read_bytes())
        upload = {"data": {"params": params}, "files": {"file": file}}
        sent = asked(app, "PUT", "/datastore/?image=scan", **upload)
        assert sent.json() == {"image": "scan"}
    for client, truth in truths.items():
        params = json.dumps({"client_id": client, "result_extension": ".nii"})
        path = f"{INFER}?image=scan&output=image"
        image = asked(app, "POST", path, data={"params": params})
        labels = np.frombuffer(image.content[352:], np.uint8)
        np.testing.assert_array_equal(labels, truth.ravel(order="F"))
    answer = asked(app, "POST", f"{INFER}?image=scan", data={"params": '{"client_id": "c"}'})
    assert refused(answer, 404) == "image: no image of that name here"


def test_cancelled_while_a_server_keeps_it_waiting(manifest, tmp_path):
    image, waiting = tmp_path / "head.nii.gz", threading.Event()
    phantoms.write_nifti(image, phantoms.raw_image(phantoms.truth()))

    def connect(still_wanted):
        def busy(_):
            waiting.set()
            while True:
                still_wanted()
                time.sleep(0.01)

        return nullcontext(busy)

    segmenter = Segmenter(manifest, PlainClient(), connect)
    with Jobs(workers=1, places=1) as jobs:
        job = jobs.begin(
            lambda progress: segmenter.run(
                image, Subject("s", told=True), tmp_path / "labels.nii.gz", progress=progress
            )
        )
        assert waiting.wait(60)
        job.cancel()
        with pytest.raises(Cancelled):
            job.result.result(60)
    assert not (tmp_path / "labels.nii.gz").exists()


def test_two_bundles_of_one_name(manifest, tmp_path):
    segmenters = [Segmenter(manifest, PlainClient(), nullcontext)] * 2
    site = open_site(segmenters, Settings(work=tmp_path))
    with pytest.raises(WrongUsage, match="--bundle: two are of one name"), site:
        pass


@pytest.mark.parametrize(
    ("headers", "line"),
    [
        (
            {"Host": "rebound.example"},
            "host: this gateway answers to this machine's own names only",
        ),
        (
            {"Origin": "http://elsewhere"},
            "origin: this page may not ask here; let it in with --cors",
        ),
        (
            {"Origin": "http://127.0.0.1:9"},
            "origin: this page may not ask here; let it in with --cors",
        ),
    ],
)
def test_pages_of_others(opened, headers, line):
    assert refused(asked(opened(), "GET", "/info/", headers=headers), 403) == line


def test_pages_that_are_let_in(opened):
    app = opened(origins=("http://ohif",))
    for headers in ({}, {"Origin": "http://ohif"}, {"Host": "localhost:80"}, {"Host": "[::1]:80"}):
        assert asked(app, "GET", "/info/", headers=headers).status_code == 200
    own = asked(app, "GET", "/info/", headers={"Origin": "http://127.0.0.1"})
    assert own.status_code == 200
