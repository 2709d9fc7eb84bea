"""The watcher as a process, before a real Orthanc."""

import re
import signal
import time
from pathlib import Path

import numpy as np
import phantoms
import pydicom
import pytest
from canary import is_copied_turned, require_none_of
from orthanc import AnswersHeld, Orthanc
from watchers import AFFINE, SHAPE, marked, secrets_of, study

from veilseg.gateway.pacs.state import State, locked
from veilseg.imaging import formats


def test_each_good_study_gets_one_segmentation_whoever_is_killed(
    tmp_path: Path, started, private_server, mixup_bundle: Path, vault: Path, veilseg
):
    """3 studies, one malformed; killed while it segments, and between storing and writing down."""
    oracle, relay = private_server
    headers = [study(tmp_path / str(n), n, spoil=n == 1) for n in range(3)]
    with Orthanc(tmp_path) as orthanc, AnswersHeld(orthanc.url) as between:
        options = ["watch", "--dicomweb", f"{between.url}/dicom-web", "--server", relay.url]
        options += ["--bundle", mixup_bundle, "--vault", vault, "--state", tmp_path / "state"]
        options += ["--rule", "Modality=MR,SeriesDescription=t1*", "--days", "0"]
        options += ["--every-s", "0.3", "--settle-s", "0.1"]
        oracle.release.clear()
        for number in range(3):
            orthanc.push(tmp_path / str(number))
        watcher = started(tmp_path / "log", *options)
        watcher.until(oracle.holding.is_set)
        assert watcher.end(signal.SIGKILL) == -signal.SIGKILL
        assert not any(orthanc.segmentations(one.StudyInstanceUID) for one in headers)
        between.hold.set()
        oracle.release.set()
        watcher.start()
        watcher.until(between.held.is_set)
        assert watcher.end(signal.SIGKILL) == -signal.SIGKILL
        # It is stored, and nobody has written that down.
        assert sum(len(orthanc.segmentations(one.StudyInstanceUID)) for one in headers) == 1
        between.hold.clear()
        watcher.start()
        watcher.until(lambda: watcher.text.count("segmented and stored") == 2)
        watcher.until(lambda: "not segmented" in watcher.text)
        # Time for a further look: nothing more is done.
        time.sleep(1.5)
        assert watcher.end(signal.SIGTERM) == 0
        first, bad, last = (orthanc.segmentations(one.StudyInstanceUID) for one in headers)
        assert (len(first), len(bad), len(last)) == (1, 0, 1)
        assert watcher.text.count("segmented and stored") == 2
        assert len(re.findall(r"^series \d: not segmented: .*damaged", watcher.text, re.M)) == 1
        for number, (content,) in ((0, first), (2, last)):
            out = tmp_path / f"{number}.dcm"
            out.write_bytes(content)
            found = formats.read_label_map(out)
            header = pydicom.dcmread(out)
            assert header.PatientID == f"mrn-kanarienvogel-{number}"
            assert header.FrameOfReferenceUID == headers[number].FrameOfReferenceUID
            command = ["--server", oracle.url, "--bundle", mixup_bundle, "--vault", vault]
            command += ["--subject", f"mrn-kanarienvogel-{number}", "-o", tmp_path / "x.dcm"]
            ended = veilseg("segment", tmp_path / str(number), *command)
            assert ended.code == 0, ended.err
            expected = formats.read_label_map(tmp_path / "x.dcm")
            np.testing.assert_array_equal(found.array, expected.array)
            np.testing.assert_allclose(found.geometry.affine, AFFINE, atol=1e-5)
    listed = veilseg("pacs", "list", "--state", tmp_path / "state").out.splitlines()
    assert sorted(line.split()[2].rstrip(":") for line in listed) == ["done", "done", "failed"]
    assert headers[1].SeriesInstanceUID in "".join(listed)
    relay.wait_until_idle()
    secrets = secrets_of(*headers)
    require_none_of(secrets, b"".join(relay.connections))
    require_none_of(secrets, watcher.log.read_bytes())
    mark = marked(np.zeros(SHAPE))
    tiles = [tile[0].astype(np.float64) for tile in oracle.tiles]
    assert len(tiles) > 1
    assert not is_copied_turned(tiles, mark)


def test_pacs_and_server_may_be_away(
    tmp_path: Path, started, private_server, mixup_bundle: Path, vault: Path, veilseg
):
    oracle, relay = private_server
    header = study(tmp_path / "study", 5)
    with Orthanc(tmp_path) as orthanc:
        options = ["watch", "--dicomweb", orthanc.dicomweb, "--bundle", mixup_bundle]
        options += ["--vault", vault, "--state", tmp_path / "state", "--days", "0"]
        options += ["--rule", "Modality=MR", "--every-s", "0.3", "--settle-s", "0.1"]
        orthanc.push(tmp_path / "study")
        orthanc.stop()
        ended = veilseg("pacs", *options, "--server", relay.url, "--once")
        assert (ended.code, ended.errors) == (
            4,
            [f"veilseg: {orthanc.dicomweb}: ConnectionError"],
        )
        watcher = started(tmp_path / "log", *options, "--server", relay.url)
        watcher.until(lambda: watcher.text.count(": again in ") == 2)
        oracle.behaviour = "hang up"
        orthanc.start()
        watcher.until(lambda: f"{relay.url}: " in watcher.text)
        assert not orthanc.segmentations(header.StudyInstanceUID)
        oracle.behaviour = phantoms.nearest_centre
        watcher.until(lambda: "segmented and stored" in watcher.text)
        assert watcher.end(signal.SIGINT) == 130
        assert len(orthanc.segmentations(header.StudyInstanceUID)) == 1
        # Done is done, for who looks again as well.
        tiles = len(oracle.tiles)
        assert veilseg("pacs", *options, "--server", relay.url, "--once").code == 0
        assert len(oracle.tiles) == tiles


@pytest.mark.parametrize(
    ("command", "code", "line"),
    [
        (["watch", "--rule", "Modality"], 2, "--rule Modality: Modality: give ATTRIBUTE=PATTERN"),
        (["watch", "--rule", "other:Modality=MR"], 2, "begin with a model: phantom-plain"),
        (["watch", "--rule", "PatientName=x"], 2, "PatientName=x: give ATTRIBUTE=PATTERN"),
        (["watch", "--rule", "Modality=MR", "--dicomweb", "x"], 3, "--dicomweb: server URL 'x'"),
        (["watch", "--rule", "Modality=MR", "--state", "/no/such/place"], 3, "cannot be written"),
        (["listen", "--rule", "Modality=MR", "--store", "x"], 3, "x: give TITLE@HOST:PORT"),
        (
            ["listen", "--rule", "Modality=MR", "--host", "0.0.0.0", "--port", "0"],
            2,
            "--host 0.0.0.0: other machines reach it: give --tls-cert and --client-ca",
        ),
        (["list", "--state", "nothing"], 3, "nothing: no such folder"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    tmp_path: Path, veilseg, plain_bundle: Path, command: list[str], code: int, line: str
):
    defaults = {
        "watch": {"--dicomweb": "http://127.0.0.1:9/dicom-web"},
        "listen": {"--store": "PACS@127.0.0.1:9"},
    }.get(command[0], {})
    if defaults:
        defaults |= {"--bundle": plain_bundle, "--state": tmp_path / "state"}
    more = [
        part for name, value in defaults.items() if name not in command for part in (name, value)
    ]
    local = ["--local"] if defaults else []
    ended = veilseg("pacs", *command, *more, *local)
    assert ended.code == code, ended.err
    (told,) = ended.errors
    assert line in told


def test_a_state_is_worked_with_by_one(tmp_path: Path, veilseg, plain_bundle: Path):
    options = ["--dicomweb", "http://127.0.0.1:9/x", "--rule", "Modality=MR", "--local", "--once"]
    options += ["--bundle", plain_bundle, "--state", tmp_path / "state"]
    with State(tmp_path / "state") as state, locked(state):
        ended = veilseg("pacs", "watch", *options)
    assert (ended.code, ended.errors) == (
        3,
        [f"veilseg: {tmp_path / 'state'}: somebody else works with it"],
    )
    (tmp_path / "state").chmod(0o755)
    assert "open to others" in veilseg("pacs", "watch", *options).err
