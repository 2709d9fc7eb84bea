"""The page's questions: what is answered, what is refused, and what ends by itself."""

import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import anyio
import httpx
import nibabel as nib
import numpy as np
import phantoms
import pytest
from refusals import refused

from veilseg.bundle import open_client_half
from veilseg.errors import ServerUnreachable
from veilseg.gateway.app import create_app
from veilseg.gateway.page import tasks
from veilseg.gateway.page.documents import Disclosure
from veilseg.gateway.page.looking import Looking
from veilseg.gateway.page.words import WORDS
from veilseg.gateway.segmenting import Segmenter
from veilseg.gateway.settings import Settings
from veilseg.gateway.site import open_site
from veilseg.payload import Answer, Proxy
from veilseg.schemes import registry
from veilseg.schemes.plain.client import PlainClient

MODEL = "phantom-plain"
BASE = "http://127.0.0.1"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory):
    bundle = phantoms.make_bundle(tmp_path_factory.mktemp("bundles") / "plain", "plain")
    return open_client_half(bundle).manifest


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("scans")
    raw = phantoms.raw_image(phantoms.truth())
    return phantoms.write_nifti(folder / "scan.nii.gz", raw).read_bytes()


@pytest.fixture
def opened(tmp_path: Path, manifest) -> Iterator[Any]:
    """Make a client of an app with limits; ``process`` computes, or raises."""
    with ExitStack() as open_until_the_end:

        @asynccontextmanager
        async def open_client(
            process: Any = phantoms.nearest_centre, disclosures: Any = None, **limits: Any
        ) -> AsyncIterator[httpx.AsyncClient]:
            segmenter = Segmenter(manifest, PlainClient(), lambda _: nullcontext(process))
            settings = Settings(work=tmp_path, **limits)
            site = open_until_the_end.enter_context(open_site([segmenter], settings))
            app = create_app(site, disclosures or {})
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
                yield client

        yield open_client


async def begun(client: httpx.AsyncClient, scan: bytes, **fields: Any) -> str:
    upload = {"files": ("Erika.nii.gz", scan)}
    session = (await client.put("/session/", files=upload)).json()["session_id"]
    asked = {"session_id": session, "model": MODEL, **fields}
    answer = await client.post("/page/tasks", json=asked)
    assert answer.status_code == 202, answer.text
    return answer.json()["task"]


async def states(client: httpx.AsyncClient, task: str) -> list[dict[str, Any]]:
    answer = await client.get(f"/page/tasks/{task}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [part for part in answer.text.split("\n\n") if part.startswith("data: ")]
    return [json.loads(event.removeprefix("data: ")) for event in events]


def test_an_image_from_beginning_to_end(opened, scan: bytes):
    async def use() -> None:
        async with opened() as client:
            task = await begun(client, scan)
            *before, last = await states(client, task)
            order = ["queued", "preparing", "protecting", "sending", "recovering"]
            stages = [state["stage"] for state in before]
            assert stages == sorted(stages, key=order.index)
            assert last["stage"] == "done"
            assert last["result"]["downloads"] == ["nifti"]
            # Whoever asks again is told the end.
            assert await states(client, task) == [last]
            for view in ("image", "proxy", "answer", "labels"):
                answer = await client.get(f"/page/tasks/{task}/views/{view}")
                assert answer.status_code == 200
                assert answer.headers["cache-control"] == "no-store"
            for path in ("views/receipt", "views/..%2fimage", "download/png", "download/other"):
                refused(await client.get(f"/page/tasks/{task}/{path}"), 404)
            refused(await client.get(f"/page/tasks/{'0' * 32}/events"), 404)

    anyio.run(use)


@pytest.mark.parametrize(
    ("content", "status", "line"),
    [
        (b"{", 400, "body: no JSON"),
        (b"[]", 400, "body: no JSON object"),
        (b'{"model": 7}', 400, "model: no text of up to 256 characters"),
        (b'{"model": "other"}', 404, "model: no model of that name here"),
        (b'{"model": "phantom-plain"}', 404, "session: no such session, or it was deleted"),
        (b" " * 70_000, 413, "body: more than the 65536 bytes of a question"),
    ],
)
def test_questions_that_cannot_be_answered(opened, content: bytes, status: int, line: str):
    async def use() -> None:
        async with opened() as client:
            assert refused(await client.post("/page/tasks", content=content), status) == line

    anyio.run(use)


def test_the_ledger_has_to_be_asked_of_somebody(opened):
    async def use() -> None:
        async with opened() as client:
            asked = {"model": MODEL, "subject": " "}
            line = refused(await client.post("/page/ledger", json=asked), 400)
            assert line == "subject: say who it is"
            asked["subject"] = "erika"
            assert (await client.post("/page/ledger", json=asked)).json() == {"sent": []}

    anyio.run(use)


def test_what_fails_says_why_in_the_last_state(opened, scan: bytes, tmp_path: Path):
    def away(tile: np.ndarray) -> np.ndarray:
        raise ServerUnreachable("http://models.example: away")

    async def use() -> None:
        async with opened(away) as client:
            last = (await states(client, await begun(client, scan)))[-1]
            assert (last["stage"], last["status"]) == ("failed", 502)
            assert last["detail"] == "http://models.example: away"
        async with opened(lambda tile: 1 / 0) as client:
            last = (await states(client, await begun(client, scan)))[-1]
            assert last["status"] == 500
            assert "its log says why" in last["detail"]
        async with opened() as client:
            last = (await states(client, await begun(client, b"nothing")))[-1]
            assert last["status"] == 400
            assert last["detail"] == "image.nii.gz: not a NIfTI image"

    anyio.run(use)


def test_pictures_that_have_no_room_end_it_and_do_not_stay(opened, scan: bytes, tmp_path: Path):
    async def use() -> None:
        # The upload lies there twice while it is kept; pictures are more than one of it.
        async with opened(stored_bytes=2 * len(scan) + 1000) as client:
            last = (await states(client, await begun(client, scan)))[-1]
            assert (last["stage"], last["status"]) == ("failed", 507)
            # Nobody asks for them any more, and no limit would count them.
            (session,) = tmp_path.glob("veilseg-gateway-*/*/")
            assert [file.name for file in session.iterdir()] == ["image.nii.gz"]

    anyio.run(use)


@pytest.fixture
def slow() -> Any:
    """Processes a tile in a fifth of a second."""

    def process(tile: np.ndarray) -> np.ndarray:
        time.sleep(0.2)
        return phantoms.nearest_centre(tile)

    return process


def test_it_ends_when_it_takes_too_long(opened, scan: bytes, slow):
    async def use() -> None:
        async with opened(slow, deadline_s=0.05) as client:
            last = (await states(client, await begun(client, scan)))[-1]
            assert (last["stage"], last["status"]) == ("failed", 504)

    anyio.run(use)


def test_it_ends_when_nobody_watches(opened, scan: bytes, slow, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tasks, "ABANDONED_S", 0.02)

    async def use() -> None:
        async with opened(slow) as client:
            left = await begun(client, scan)
            watched = await begun(client, scan)
            assert (await states(client, watched))[-1]["stage"] == "done"
            last = (await states(client, left))[-1]
            assert (last["stage"], last["detail"]) == (
                "cancelled",
                "nobody waits for it any more",
            )

    anyio.run(use)


def test_it_ends_when_it_is_cancelled_before_its_turn(opened, scan: bytes, slow):
    async def use() -> None:
        async with opened(slow, workers=1) as client:
            first, second = [await begun(client, scan) for _ in range(2)]
            assert (await client.delete(f"/page/tasks/{second}")).status_code == 202
            assert [one["stage"] for one in await states(client, second)] == ["cancelled"]
            assert (await states(client, first))[-1]["stage"] == "done"
            # What is done stays done.
            await client.delete(f"/page/tasks/{first}")
            assert (await states(client, first))[-1]["stage"] == "done"

    anyio.run(use)


def test_what_is_known_of_models(opened, manifest):
    said = Disclosure("heads", "quick", "synthetic", 9, 8, (("image", "The server can see."),))

    async def use(disclosures: Any) -> dict[str, Any]:
        async with opened(disclosures=disclosures) as client:
            return (await client.get("/page/about")).json()["models"][0]

    without = anyio.run(use, {})
    assert without["audit"] is None, "no audit, no figure"
    assert without["words"]["title"] == "Not protected"
    audited = anyio.run(use, {manifest.bundle_id: said})
    assert audited["audit"]["channels"] == [["image", "The server can see."]]


def test_an_encoding_lies_nowhere_and_is_shown_as_numbers(manifest, tmp_path: Path):
    looking = Looking(tmp_path, manifest, lambda stage: None)
    assert looking.linked
    rng = np.random.default_rng(0)
    proxy = Proxy(rng.normal(size=(3, 10)).astype(np.float32), tiled=True)
    answer = Answer(rng.normal(size=(3, 17)).astype(np.float32))
    looking.answered(proxy, None, answer)
    assert not looking.linked
    for view, side in (("proxy", 4), ("answer", 5)):
        assert nib.load(tmp_path / f"{view}.nii").shape[:3] == (side, side, 3)


def test_every_scheme_has_words_and_none_is_called_encryption():
    known = {*registry.NEEDS_VAULT, "plain", "encoding", "privacy_net"}
    assert set(WORDS) == known
    assert "encrypt" not in repr(WORDS).lower()


def test_the_page_asks_for_its_own_files_only(opened):
    async def use() -> None:
        async with opened() as client:
            page = await client.get("/")
            assert "default-src 'none'" in page.headers["content-security-policy"]
            assert "http" not in page.text.replace("http-equiv", "")
            for name in ("page.js", "page.css", "mark.svg"):
                assert (await client.get(f"/assets/{name}")).status_code == 200
            for name in ("none.js", "..%2froutes.py", "__init__.py"):
                refused(await client.get(f"/assets/{name}"), 404)

    anyio.run(use)
