"""Work, uploads and folders of the gateway, without HTTP."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import dicoms
import numpy as np
import pytest

from veilseg.errors import InvalidImage
from veilseg.gateway.datastore import Datastore
from veilseg.gateway.errors import Cancelled, InvalidRequest, StorageFull, UnknownObject
from veilseg.gateway.forms import kept
from veilseg.gateway.jobs import Jobs
from veilseg.gateway.multipart import Upload
from veilseg.gateway.segmenting import Subject
from veilseg.gateway.sessions import Sessions
from veilseg.gateway.work import PREFIX, YOUNG_S, work_folder
from veilseg.imaging import formats
from veilseg.serving.errors import Draining, TooManyWaiting


@pytest.fixture
def upload(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Upload]:
    """A file as it arrived."""
    folder = tmp_path_factory.mktemp("incoming")

    def arrived(name: str, content: bytes = b"x") -> Upload:
        path = folder / f"{len(list(folder.iterdir())):06d}"
        path.write_bytes(content)
        return Upload(name, path, len(content))

    return arrived


def test_jobs_are_bounded_cancelled_and_ended():
    begun, release = threading.Event(), threading.Event()

    def work(report):
        begun.set()
        release.wait(30)
        report(1, 2)
        return "done"

    with Jobs(workers=1, places=2) as jobs:
        running = jobs.begin(work)
        assert begun.wait(30)
        waiting = jobs.begin(work)
        with pytest.raises(TooManyWaiting):
            jobs.begin(work)
        waiting.cancel()
        assert waiting.result.cancelled()
        third = jobs.begin(lambda report: "soon")
        running.cancel()
        release.set()
        with pytest.raises(Cancelled):
            running.result.result(30)
        assert (running.done, running.total) == (1, 2)
        assert third.result.result(30) == "soon"
    with pytest.raises(Draining):
        jobs.begin(work)


def test_what_still_arrives_takes_room(upload, tmp_path: Path):
    with Sessions(tmp_path, 60, stored_bytes=10) as sessions:
        with sessions.arriving() as room:
            room.more(4)
            room.more(4)
            with pytest.raises(StorageFull):
                room.more(4)
            with pytest.raises(StorageFull):
                sessions.add("a", [upload("scan.nii.gz", b"12345")])
        kept = sessions.add("a", [upload("scan.nii.gz", b"12345")])
        with pytest.raises(StorageFull), sessions.arriving() as room:
            room.more(6)
        sessions.remove("a", kept.id)
        with sessions.arriving() as room:
            room.more(10)


def test_uploads_lie_under_names_that_say_nothing(upload, tmp_path: Path):
    names = {
        "one": (["/scans/Erika Mustermann.NII.GZ"], ["image.nii.gz"]),
        "windows": ([r"C:\Erika\scan.zip"], ["image.zip"]),
        "bare": (["IM0001"], ["image"]),
        "channels": (
            ["erika_0001.nii.gz", "erika_0000.nii.gz"],
            ["image_0000.nii.gz", "image_0001.nii.gz"],
        ),
        "numbered": (["IMG_0000.dcm", "IMG_0001.dcm"], ["000000.dcm", "000001.dcm"]),
        "series": (["erika1.dcm", "../2", "DICOMDIR"], ["000000.dcm", "000001", "000002"]),
    }
    for case, (given, written) in names.items():
        folder = tmp_path / case
        folder.mkdir()
        image, digest = kept([upload(name, name.encode()) for name in given], folder)
        assert image.exists()
        assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == written
        assert len(digest) == 64
    assert image == tmp_path / "series" / "series"
    with pytest.raises(InvalidRequest, match="files: there is none"):
        kept([], tmp_path)


def test_sessions_end_and_belong_to_somebody(upload, tmp_path: Path):
    sessions = Sessions(tmp_path, lifetime_s=100, stored_bytes=10)
    mine = sessions.add("me", [upload("a.nii", bytes(6))])
    short = sessions.add("me", [upload("a.nii", bytes(4))], lifetime_s=1)
    with pytest.raises(StorageFull):
        sessions.add("me", [upload("a.nii")])
    for name, owner in ((mine.id, "other"), ("none", "me"), ("../x", "me")):
        with pytest.raises(UnknownObject):
            sessions.find(owner, name)
    short.used = time.time() - 2
    with sessions.used("me", short.id):
        sessions.sweep()
        assert short.image.exists()
    short.used = time.time() - 2
    sessions.sweep()
    assert not short.image.exists()
    assert mine.image.exists()
    assert mine.document()["path"] == ""
    sessions.remove("me", mine.id)
    assert list(tmp_path.iterdir()) == []
    first = sessions.add("me", [upload("a.nii")], label="scan")
    assert sessions.labelled("me", "scan") is first
    assert sessions.labelled("other", "scan") is None
    second = sessions.add("me", [upload("a.nii")], label="scan")
    assert sessions.labelled("me", "scan") is second
    assert not first.image.exists()


def test_what_a_killed_process_left_is_deleted(tmp_path: Path):
    left, young = tmp_path / f"{PREFIX}left", tmp_path / f"{PREFIX}young"
    for folder in (left, young):
        folder.mkdir()
        (folder / "image.nii.gz").write_bytes(b"x")
    old = time.time() - 2 * YOUNG_S
    os.utime(left, (old, old))
    with work_folder(tmp_path) as first:
        assert not left.exists()
        assert young.exists()
        assert first.stat().st_mode & 0o777 == 0o700
        os.utime(first, (old, old))
        with work_folder(tmp_path):
            assert first.exists()  # somebody holds its lock
    assert sorted(tmp_path.iterdir()) == [young]


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_files_of_a_deleted_session_stay_for_who_uses_them(upload, tmp_path: Path, how):
    sessions = Sessions(tmp_path, lifetime_s=100, stored_bytes=100)
    mine = sessions.add("me", [upload("a.nii", b"first")], label="head")
    with sessions.used("me", mine.id), sessions.used("me", mine.id):
        if how == "removed":
            sessions.remove("me", mine.id)
        else:
            sessions.add("me", [upload("a.nii", b"second")], label="head")
        with pytest.raises(UnknownObject):
            sessions.find("me", mine.id)
        assert mine.image.read_bytes() == b"first"
    assert not mine.image.exists()


def test_images_are_found_by_name_and_by_series(tmp_path: Path):
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    study = dicoms.write_series(tmp_path / "study.one", array, dicoms.oblique())
    for name in ("head.nii.gz", "case_0000.nii.gz", "case_0001.nii.gz", ".hidden.nii", "a.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "head_2024.nii").write_bytes(b"x")  # of no channels
    datastore = Datastore(tmp_path)
    assert datastore.names() == ["case", "head", "head_2024", "study.one"]
    assert datastore.find("head") == datastore.find("head.nii.gz") == tmp_path / "head.nii.gz"
    assert datastore.find("case") == tmp_path / "case_0000.nii.gz"
    identity = formats.identity_of(study)
    for _ in range(2):
        assert datastore.find(identity.series) == study
    for name in ("", "..", "case_0001", "1.2.3", ".hidden", str(study)):
        with pytest.raises(UnknownObject, match="no image of that name"):
            datastore.find(name)
    (tmp_path / "head.nii").write_bytes(b"x")
    with pytest.raises(UnknownObject, match="several images of that name"):
        datastore.find("head")
    assert Datastore(None).names() == []


def test_who_it_is(tmp_path: Path):
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    study = dicoms.write_series(tmp_path / "study", array, dicoms.oblique())
    assert Subject.of(study, "told", "name") == Subject("told", told=True)
    assert Subject.of(study, "", "name") == Subject("secret-id-17", told=True)
    assert "secret" not in repr(formats.identity_of(study))
    scan = tmp_path / "scan.nii.gz"
    scan.write_bytes(b"x")
    assert Subject.of(scan, "", "name") == Subject("name", told=False)
    nameless = dicoms.slices(array, dicoms.oblique())
    for dataset in nameless:
        dataset.PatientID = ""
    folder = dicoms.write(tmp_path / "nameless", nameless)
    assert Subject.of(folder, "", "name") == Subject("name", told=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidImage, match="no DICOM image"):
        Subject.of(tmp_path / "empty", "", "name")


def test_a_site_installs_nothing_that_computes():
    """What an install of the extra does not bring is not asked for."""
    absent = ["torch", "monai", "onnx", "openvino", "prometheus_client", "pydantic_settings"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent}));"
        "import veilseg.cli.main, veilseg.cli.gateway, veilseg.cli.pacs, veilseg.gateway.app,"
        "veilseg.gateway.pacs.dicomweb, veilseg.gateway.pacs.dimse, veilseg.serving.service,"
        "veilseg.gateway.pacs.watching, veilseg.gateway.site, veilseg.serving.logs,"
        "veilseg.serving.sockets, veilseg.serving.tls"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
