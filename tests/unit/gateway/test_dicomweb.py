"""A PACS over DICOMweb that answers as some do."""

import io
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import dicoms
import numpy as np
import pytest
from pydicom import FileDataset

from veilseg.errors import InvalidAnswer, InvalidInput, ServerError, ServerRefused
from veilseg.gateway.pacs.dicomweb import DicomWeb
from veilseg.gateway.pacs.errors import Rejected

JSON = "application/dicom+json"
STUDY, SERIES = "0020000D", "0020000E"
FAILED, STORED = "00081198", "00081199"


@pytest.fixture
def pacs() -> Iterator[SimpleNamespace]:
    """A server whose answers, by the beginning of a path, the test says."""
    answers: dict[str, tuple[int, str, bytes]] = {}

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fitting = [path for path in answers if self.path.startswith(path)]
            status, kind, body = answers[max(fitting, key=len)]
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None:
            """Tests are quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    yield SimpleNamespace(url=url, answers=answers, web=DicomWeb(url))
    server.shutdown()
    thread.join()
    server.server_close()


def document(**attributes: object) -> dict[str, object]:
    """DICOM JSON of UIDs."""
    return {tag: {"vr": "UI", "Value": [value]} for tag, value in attributes.items()}


def reply(found: object, status: int = 200, kind: str = JSON) -> tuple[int, str, bytes]:
    return status, kind, json.dumps(found).encode()


def of_stored(uid: str, reason: int | None = None) -> dict[str, object]:
    item = {"00081155": {"vr": "UI", "Value": [uid]}}
    if reason is not None:
        item["00081197"] = {"vr": "US", "Value": [reason]}
    return {FAILED if reason is not None else STORED: {"vr": "SQ", "Value": [item]}}


def series() -> list[FileDataset]:
    """Three slices; any object is a segmentation to who stores it."""
    return dicoms.slices(np.zeros((6, 5, 3), np.int16), dicoms.oblique())


def as_bytes(dataset: FileDataset) -> bytes:
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


@pytest.fixture
def segmentation(tmp_path: Path) -> SimpleNamespace:
    (one, *_) = series()
    file = tmp_path / "segmentation.dcm"
    one.save_as(file, enforce_file_format=True)
    return SimpleNamespace(file=file, uid=str(one.SOPInstanceUID))


@pytest.mark.parametrize("kind", [JSON, f"{JSON}; charset=utf-8"])
def test_what_is_stored_is_named(pacs, segmentation, kind):
    pacs.answers["/studies"] = reply(of_stored(segmentation.uid), kind=kind)
    pacs.web.store(segmentation.file)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((200, "text/html", b"<html>please log in</html>"), ServerRefused),
        (reply({}), ServerRefused),
        (reply(of_stored("1.2.3")), ServerRefused),
        (reply(of_stored("1.2.3", 0xA700), kind=f"{JSON}; charset=utf-8"), ServerRefused),
        (reply(of_stored("1.2.3", 0xC000), kind=f"{JSON}; charset=utf-8"), Rejected),
        (reply(of_stored("1.2.3", 0xC000), 409), Rejected),
    ],
)
def test_what_is_not_said_to_be_stored_is_not(pacs, segmentation, answer, error):
    """Its only copy would be deleted."""
    pacs.answers["/studies"] = answer
    with pytest.raises(error):
        pacs.web.store(segmentation.file)


@pytest.mark.parametrize("status", [200, 409])
def test_what_is_there_already_is_stored(pacs, segmentation, status):
    """Killed after storing and before writing that down; not every PACS takes it twice."""
    pacs.answers["/studies"] = reply(of_stored(segmentation.uid, 0x0111), status)
    pacs.web.store(segmentation.file)


def test_studies_that_cannot_be_listed_hide_no_others(pacs, caplog):
    studies = [document(**{STUDY: uid}) for uid in ("1.2.CANARY.3", "1.9", "1.1")] + [{}]
    pacs.answers |= {
        "/studies": reply(studies),
        "/studies?limit=200&offset=4": reply([]),
        "/studies/1.9/series": reply({"gone": True}, 404),
        "/studies/1.1/series": reply([document(**{SERIES: uid}) for uid in ("1.1.1", "x")]),
    }
    with caplog.at_level(logging.WARNING):
        found = list(pacs.web.changed_series(0))
    assert [(one.study, one.series) for one in found] == [("1.1", "1.1.1")]
    assert "4 studies or series cannot be listed" in caplog.text
    assert "CANARY" not in caplog.text


@pytest.mark.parametrize("nonsense", [reply(["1.2.CANARY"]), (200, JSON, b"[1.2.CANARY")])
def test_nonsense_is_told_without_what_it_says(pacs, nonsense):
    pacs.answers["/studies"] = nonsense
    with pytest.raises(ServerError) as caught:
        list(pacs.web.changed_series(0))
    assert "CANARY" not in str(caught.value)


def test_a_page_instead_of_images_is_no_damaged_series(pacs, tmp_path):
    pacs.answers["/studies"] = (200, "text/html", b"<html>maintenance</html>")
    row = SimpleNamespace(study="1.1", series="1.1.1", images=3)
    with pytest.raises(InvalidAnswer, match="answers with no images"):
        pacs.web.fetch(row, tmp_path)


@pytest.mark.parametrize(("status", "error"), [(500, InvalidAnswer), (503, ServerRefused)])
def test_a_series_at_which_a_pacs_fails_is_told_from_a_pacs_that_is_away(
    pacs, segmentation, tmp_path, status, error
):
    """The first kind is counted, and given up after some times."""
    pacs.answers["/studies"] = reply({}, status)
    row = SimpleNamespace(study="1.1", series="1.1.1", images=3)
    with pytest.raises(error, match=f"answers {status}"):
        pacs.web.fetch(row, tmp_path)
    with pytest.raises(error, match=f"answers {status}"):
        pacs.web.store(segmentation.file)


def test_a_series_that_comes_in_part_is_not_taken_for_whole(pacs, tmp_path):
    parts = b"".join(
        b"--cut\r\nContent-Type: application/dicom\r\n\r\n" + as_bytes(one) + b"\r\n"
        for one in series()
    )
    kind = 'multipart/related; type="application/dicom"; boundary=cut'
    pacs.answers["/studies"] = (200, kind, parts + b"--cut--")
    for images, folder in ((3, "whole"), (5, "part")):
        (tmp_path / folder).mkdir()
        row = SimpleNamespace(study="1.1", series="1.1.1", images=images)
        if images == 3:
            assert len(list(pacs.web.fetch(row, tmp_path / folder).iterdir())) == 3
            continue
        with pytest.raises(InvalidAnswer, match="gives 3 of 5 images"):
            pacs.web.fetch(row, tmp_path / folder)


def test_no_proxy_of_the_environment_sees_unprotected_images(pacs, segmentation, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    pacs.answers["/studies"] = reply(of_stored(segmentation.uid))
    DicomWeb(pacs.url).store(segmentation.file)


def test_no_password_in_an_address():
    with pytest.raises(InvalidInput) as caught:
        DicomWeb("http://user:geheim@127.0.0.1:9/dicom-web")
    assert "geheim" not in str(caught.value)
    assert str(caught.value).startswith("--dicomweb: ")
