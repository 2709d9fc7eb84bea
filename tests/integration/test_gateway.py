"""The gateway as a process, before a real server, with the clients that hospitals have."""

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dicoms
import httpx
import nibabel as nib
import nrrd
import numpy as np
import phantoms
import pytest
from canary import is_copied_turned, require_none_of, tiles_in
from processes import GatewayProcess, ServeProcess
from servers import RecordingRelay
from slicer import Refused, ask, post
from watchers import marked

from veilseg.imaging import formats
from veilseg.vault.vault import Vault

SLICER = {"result_extension": ".nrrd", "result_dtype": "uint8"}
ORIGIN = "http://ohif.example"
AFFINE = dicoms.oblique(7, (1, 1, 1))
SHAPE = (18, 16, 20)
MIXUP, PLAIN = "phantom-mixup", "phantom-plain"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, mixup_bundle: Path) -> Path:
    """A site: a vault, and images that lie there already."""
    place = tmp_path_factory.mktemp("site")
    Vault.create(place / "vault", phantoms.bundle_id(mixup_bundle))
    (place / "data").mkdir()
    (place / "work").mkdir()
    raw = phantoms.raw_image(phantoms.truth(SHAPE))
    phantoms.write_nifti(place / "data" / "head.nii.gz", raw)
    dicoms.write_series(place / "data" / "study", raw, AFFINE)
    return place


@pytest.fixture(scope="module")
def server(place: Path, mixup_bundle: Path, plain_bundle: Path) -> Iterator[ServeProcess]:
    with ServeProcess(place / "server.log", mixup_bundle, plain_bundle) as server:
        yield server


@pytest.fixture(scope="module")
def relay(server: ServeProcess) -> Iterator[RecordingRelay]:
    with RecordingRelay(server.url.removeprefix("http://")) as relay:
        yield relay


@pytest.fixture(scope="module")
def gateway(
    place: Path, relay: RecordingRelay, mixup_bundle: Path, plain_bundle: Path
) -> Iterator[GatewayProcess]:
    options = ["--bundle", mixup_bundle, "--bundle", plain_bundle, "--vault", place / "vault"]
    options += ["--server", relay.url, "--data", place / "data", "--work", place / "work"]
    with GatewayProcess(place / "gateway.log", *options, "--cors", ORIGIN) as gateway:
        yield gateway


@pytest.fixture
def by_command(tmp_path: Path, place: Path, server: ServeProcess, veilseg):
    """What ``veilseg segment`` makes of an image, with the same vault and server."""

    def run(image: Path, bundle: Path, subject: str, name: str = "command.nii.gz"):
        out = tmp_path / name
        options = ["--server", server.url, "--bundle", bundle, "--vault", place / "vault"]
        ended = veilseg("segment", image, *options, "--subject", subject, "-o", out)
        assert ended.code == 0, ended.err
        return formats.read_label_map(out)

    return run


def read_nrrd(path: Path | bytes, tmp_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and the affine to RAS."""
    if isinstance(path, bytes):
        (tmp_path / "got.nrrd").write_bytes(path)
        path = tmp_path / "got.nrrd"
    array, header = nrrd.read(str(path))
    assert header["space"] == "right-anterior-superior"
    assert header["encoding"] == "raw"
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = header["space directions"].T, header["space origin"]
    return array, affine


def test_every_call_of_slicers_client(
    gateway: GatewayProcess, place: Path, tmp_path: Path, mixup_bundle: Path, by_command
):
    scan = place / "data" / "head.nii.gz"
    auth, info, session, found, by_session, by_file, by_name, sent, by_upload, *rest = ask(
        gateway.url,
        tmp_path,
        ["auth_enabled"],
        ["info"],
        ["create_session", scan],
        ["get_session", "SESSION"],
        ["infer", MIXUP, "", SLICER, None, None, "SESSION"],
        ["infer", MIXUP, "", {"result_extension": ".nii.gz"}, None, scan],
        ["infer", MIXUP, "head", SLICER],
        ["upload_image", scan, "a volume"],
        ["infer", MIXUP, "a volume", SLICER],
        ["datastore"],
        ["remove_session", "SESSION"],
        ["get_session", "SESSION"],
        ["train_status", True],
        ["train_start", MIXUP, {}],
        ["next_sample", "random", {}],
    )
    assert auth is False
    assert "config" not in info
    assert info["labels"] == ["background", "shell", "core"]
    assert set(info["models"]) == {MIXUP, PLAIN}
    assert info["models"][MIXUP] == {
        "type": "segmentation",
        "labels": {"shell": 1, "core": 2},
        "dimension": 3,
        "description": f"{MIXUP} 1, protected by mixup",
        "config": {"subject": "", "allow_repeat": False},
    }
    images, *rest = rest
    assert sent == {"image": "a volume"}
    assert list(images["objects"]) == ["head", "study"]
    assert found["name"] == session["session_id"]
    assert str(place) not in json.dumps([found, session])
    expected = by_command(scan, mixup_bundle, "head")
    assert set(np.unique(expected.array)) == {0, 1, 2}
    for file, params in (by_session, by_name, by_upload):
        labels, affine = read_nrrd(Path(file), tmp_path)
        np.testing.assert_array_equal(labels, expected.array)
        assert labels.dtype == np.uint8
        np.testing.assert_allclose(affine, expected.geometry.affine, atol=1e-6)
        assert params["label_names"] == {"shell": 1, "core": 2}
        assert params["volumes_ml"]["core"] > 0
        centre = np.argwhere(expected.array == 2).mean(axis=0)
        assert params["centroids"]["core"][0] == "2"
        np.testing.assert_allclose(
            [int(i) for i in params["centroids"]["core"][1:]], centre, atol=1
        )
    stored = nib.load(by_file[0])
    np.testing.assert_array_equal(np.asarray(stored.dataobj), expected.array)
    np.testing.assert_allclose(stored.affine, expected.geometry.affine, atol=1e-6)
    removed, gone, running, *refused = rest
    assert removed["name"] == session["session_id"]
    assert isinstance(gone, Refused)
    assert "session: no such session" in str(gone)
    assert running is False
    for one in refused:
        assert "Status: 501" in str(one)
        assert "it neither trains nor keeps labels" in str(one)
    left = {path.name for path in (place / "work").rglob("*") if path.is_file()}
    assert left == {".lock", "image.nii.gz"}  # the volume, for a while


def test_ohif_asks_by_series_and_gets_raw_voxels(
    gateway: GatewayProcess, place: Path, tmp_path: Path, mixup_bundle: Path, by_command
):
    series = formats.identity_of(place / "data" / "study").series
    asked = {"result_extension": ".nrrd", "result_dtype": "uint16", "result_compress": False}
    answer = post(gateway, MIXUP, asked, image=series, output="image", headers={"Origin": ORIGIN})
    assert answer.status_code == 200, answer.text
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["content-type"] == "application/octet-stream"
    expected = by_command(place / "data" / "study", mixup_bundle, "secret-id-17")
    labels, affine = read_nrrd(answer.content, tmp_path)
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels, expected.array)
    np.testing.assert_allclose(affine, AFFINE, atol=1e-5)
    preflight = httpx.options(
        f"{gateway.url}/infer/{MIXUP}",
        headers={"Origin": ORIGIN, "Access-Control-Request-Method": "POST"},
    )
    assert preflight.status_code == 200
    for origin in ("http://elsewhere.example", "null"):
        foreign = post(gateway, MIXUP, asked, image="head", headers={"Origin": origin})
        assert foreign.status_code == 403
        assert "access-control-allow-origin" not in foreign.headers
    named = httpx.get(f"{gateway.url}/info/", headers={"Host": "rebound.example"})
    assert named.status_code == 403


def test_dicom_segmentations(
    gateway: GatewayProcess, place: Path, tmp_path: Path, mixup_bundle: Path, by_command
):
    study = place / "data" / "study"
    zipped = Path(shutil.make_archive(str(tmp_path / "export"), "zip", study))
    uploads = [("files", (file.name, file.read_bytes())) for file in study.iterdir()]
    session = httpx.put(f"{gateway.url}/session/", files=uploads).json()["session_id"]
    archive = {"file": (zipped.name, zipped.read_bytes())}
    answers = [
        post(gateway, MIXUP, image="study", output="dicom_seg"),
        post(gateway, MIXUP, session_id=session, output="dicom_seg"),
        post(gateway, MIXUP, files=archive, output="dicom_seg"),
    ]
    expected = by_command(study, mixup_bundle, "secret-id-17", "command.dcm")
    for number, answer in enumerate(answers):
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/dicom"
        out = tmp_path / f"{number}.dcm"
        out.write_bytes(answer.content)
        found = formats.read_label_map(out)
        np.testing.assert_array_equal(found.array, expected.array)
        np.testing.assert_allclose(found.geometry.affine, AFFINE, atol=1e-5)
    refused = post(gateway, MIXUP, image="head", output="dicom_seg")
    assert refused.status_code == 400
    assert refused.json()["detail"].endswith("head.nii.gz: not a DICOM image")


def test_nothing_of_a_patient_is_sent_or_logged(
    gateway: GatewayProcess,
    server: ServeProcess,
    relay: RecordingRelay,
    place: Path,
    tmp_path: Path,
):
    """Canary (threats.md), through Slicer's client, with a folder that names its patient."""
    raw = phantoms.raw_image(phantoms.truth(SHAPE))
    mark = marked(raw)
    datasets = dicoms.slices(raw, AFFINE)
    name, patient = "CANARY^ERIKA^MUSTERMANN", "mrn-kanarienvogel-4711"
    for dataset in datasets:
        dataset.PatientName, dataset.PatientID = name, patient
        dataset.PatientBirthDate, dataset.StudyDate = "19120623", "19540607"
    series = dicoms.write(tmp_path / "MUSTERMANN_ERIKA", datasets)
    zipped = shutil.make_archive(str(series), "zip", series)
    secrets = [name, "MUSTERMANN", patient, "19120623", "19540607"]
    first = datasets[0]
    secrets += [first.StudyInstanceUID, first.SeriesInstanceUID, first.SOPInstanceUID]
    secrets += [first.FrameOfReferenceUID]
    before = len(relay.connections)
    results = ask(
        gateway.url,
        tmp_path,
        ["create_session", zipped],
        ["infer", MIXUP, name, SLICER, None, None, "SESSION"],
        ["infer", MIXUP, first.SeriesInstanceUID, {**SLICER, "subject": patient}, None, zipped],
        ["infer", MIXUP, name, SLICER],
        ["remove_session", "SESSION"],
    )
    assert isinstance(results[3], Refused)
    assert "no image of that name" in str(results[3])
    connections = relay.connections[before:]
    sent = b"".join(connections)
    tiles = [tile for connection in connections for tile in tiles_in(connection)]
    assert len(tiles) == 2 * 4
    assert not is_copied_turned(tiles, mark)
    logs = gateway.text + server.text
    assert "route=/infer/{model} status=200" in logs
    require_none_of(secrets, sent)
    require_none_of([*secrets, str(place), str(tmp_path)], logs.encode())
    # The alarm can ring: through plain, the voxels are there to be seen.
    before = len(relay.connections)
    with Path(zipped).open("rb") as stream:
        assert post(gateway, PLAIN, files={"file": ("a.zip", stream)}).status_code == 200
    tiles = [tile for connection in relay.connections[before:] for tile in tiles_in(connection)]
    assert is_copied_turned(tiles, mark)


@pytest.mark.parametrize("model", [PLAIN, MIXUP])
def test_ten_users_get_their_own(
    gateway: GatewayProcess, tmp_path: Path, mixup_bundle: Path, by_command, model
):
    """With mixup, keys, references and receipts of ten subjects could be mixed up."""
    rng = np.random.default_rng(5)
    truths = [
        np.pad(phantoms.truth((10 + i, 12, 14)), [(int(n), 1) for n in rng.integers(0, 3, 3)])
        for i in range(10)
    ]
    scans = [
        phantoms.write_nifti(tmp_path / f"{i}.nii.gz", phantoms.raw_image(truth, i))
        for i, truth in enumerate(truths)
    ]

    def use(number: int) -> np.ndarray:
        upload = {"files": ("scan.nii.gz", scans[number].read_bytes())}
        options = {**SLICER, "subject": f"user-{number}"}
        with httpx.Client(base_url=gateway.url, timeout=120) as client:
            session = client.put("/session/", files=upload).json()["session_id"]
            answer = client.post(
                f"/infer/{model}",
                params={"session_id": session, "output": "image"},
                data={"params": json.dumps(options)},
            )
            assert client.delete(f"/session/{session}").status_code == 200
        assert answer.status_code == 200, answer.text
        (tmp_path / f"{number}.nrrd").write_bytes(answer.content)
        return nrrd.read(str(tmp_path / f"{number}.nrrd"))[0]

    with ThreadPoolExecutor(10) as users:
        found = list(users.map(use, range(10)))
    expected = truths
    if model == MIXUP:
        expected = [
            by_command(scan, mixup_bundle, f"user-{number}", f"{number}-command.nii.gz").array
            for number, scan in enumerate(scans)
        ]
        assert all((labels > 0).any() for labels in expected)
    for labels, own in zip(found, expected, strict=True):
        np.testing.assert_array_equal(labels, own)


def test_a_second_image_of_somebody_is_refused_unless_allowed(
    gateway: GatewayProcess, tmp_path: Path
):
    scans = [
        phantoms.write_nifti(tmp_path / f"{i}.nii.gz", phantoms.raw_image(phantoms.truth(), i))
        for i in range(2)
    ]
    told = {**SLICER, "subject": "somebody"}
    first, second, allowed = ask(
        gateway.url,
        tmp_path,
        ["infer", MIXUP, "", told, None, scans[0]],
        ["infer", MIXUP, "", told, None, scans[1]],
        ["infer", MIXUP, "", {**told, "allow_repeat": True}, None, scans[1]],
    )
    assert first[1]["warnings"] == []
    assert "Status: 409" in str(second)
    assert allowed[1]["warnings"] == [
        "this server now has 2 different proxies of this subject and can average them"
    ]
