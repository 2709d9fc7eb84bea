"""Gateways of their own, each with something that may go wrong."""

import re
import time
from pathlib import Path

import httpx
import phantoms
import pytest
from processes import GatewayProcess
from slicer import ask, post

from veilseg.access import token_file

PLAIN = "phantom-plain"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A site with an image."""
    (tmp_path / "data").mkdir()
    raw = phantoms.raw_image(phantoms.truth())
    phantoms.write_nifti(tmp_path / "data" / "head.nii.gz", raw)
    return tmp_path


def test_with_tokens_everybody_has_their_own_sessions(
    tmp_path: Path, place: Path, plain_bundle: Path
):
    tokens = tmp_path / "tokens.json"
    ward, other = (token_file.add(tokens, name, ["infer"], 1)[0] for name in ("ward", "other"))
    scan = place / "data" / "head.nii.gz"
    options = ["--bundle", plain_bundle, "--local", "--tokens", tokens, "--data", place / "data"]
    with GatewayProcess(tmp_path / "log", *options) as gateway:
        enabled, token, refused = ask(
            gateway.url,
            tmp_path,
            ["auth_enabled"],
            ["auth_token", "anybody", ward],
            ["auth_token", "anybody", "wrong"],
        )
        assert enabled is True
        assert "Status: 401" in str(refused)
        assert token == {"access_token": ward, "token_type": "Bearer"}
        info, valid, session = ask(
            gateway.url,
            tmp_path,
            ["info"],
            ["auth_valid_token"],
            ["create_session", scan],
            token=token,
        )
        assert set(info["models"]) == {PLAIN}
        assert valid is True
        own, foreign, none = (
            httpx.get(f"{gateway.url}/session/{session['session_id']}", headers=headers)
            for headers in (
                {"Authorization": f"Bearer {ward}"},
                {"Authorization": f"Bearer {other}"},
                {},
            )
        )
        assert (own.status_code, foreign.status_code, none.status_code) == (200, 404, 401)
        assert none.headers["www-authenticate"] == "Bearer"
        for method, path in (("GET", "/info/"), ("PUT", "/session/"), ("POST", f"/infer/{PLAIN}")):
            assert httpx.request(method, gateway.url + path).status_code == 401
        assert ward not in gateway.text


def test_uploads_are_deleted_after_a_time_and_when_it_ends(
    tmp_path: Path, place: Path, plain_bundle: Path
):
    work = tmp_path / "work"
    work.mkdir()
    scan = (place / "data" / "head.nii.gz").read_bytes()
    options = ["--bundle", plain_bundle, "--local", "--work", work]
    with GatewayProcess(tmp_path / "log", *options, "--keep-minutes", "0.05") as gateway:
        upload = {"files": ("scan.nii.gz", scan)}
        session = httpx.put(f"{gateway.url}/session/", files=upload).json()["session_id"]
        assert httpx.get(f"{gateway.url}/session/{session}").status_code == 200
        assert [path.stat().st_mode & 0o777 for path in work.iterdir()] == [0o700]
        deadline = time.monotonic() + 60
        while list(work.rglob("image*")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert httpx.get(f"{gateway.url}/session/{session}").status_code == 404
        httpx.put(f"{gateway.url}/session/", files=upload)
        assert list(work.rglob("image*"))
    assert list(work.iterdir()) == []


def test_a_server_that_is_away_is_one_line(tmp_path: Path, place: Path, plain_bundle: Path):
    options = ["--bundle", plain_bundle, "--server", "http://127.0.0.1:9", "--data", place / "data"]
    with GatewayProcess(tmp_path / "log", *options) as gateway:
        answer = post(gateway, PLAIN, image="head")
        assert answer.status_code == 502
        assert re.fullmatch(r"http://127\.0\.0\.1:9: [^\n]+", answer.json()["detail"])
