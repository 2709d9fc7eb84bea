"""The tokens file: private, re-read when it changes, and sound whatever happens to it."""

import errno
import json
import os
import stat
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from veilseg.access import token_file
from veilseg.access.errors import InvalidTokens, NotAuthenticated
from veilseg.access.token_file import TokenFile, read_grants


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


def test_only_hashes_in_a_private_file(file: Path):
    token, grant = token_file.add(file, "uni", ["infer"], 1)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    secret = token.rpartition("_")[2]
    assert secret[:20] not in file.read_text()
    assert read_grants(file) == {grant.id: grant}


def test_changes_are_seen_without_a_restart(file: Path, caplog: pytest.LogCaptureFixture):
    first, grant = token_file.add(file, "uni", ["infer"], 1)
    served = TokenFile(file)
    assert served.grant_of(first) == grant
    second, _ = token_file.add(file, "clinic", ["infer"], 1)
    assert served.grant_of(second).site == "clinic"
    third, new, _ = token_file.rotate(file, grant.id, grace_hours=0)
    assert served.grant_of(third) == new
    with pytest.raises(NotAuthenticated, match="expired"):
        served.grant_of(first)
    token_file.revoke(file, new.id)
    with pytest.raises(NotAuthenticated, match="revoked"):
        served.grant_of(third)
    assert not any(part in caplog.text for part in (first[-43:], second[-43:], third[-43:]))


@pytest.mark.parametrize(
    "harm",
    [
        lambda file: file.write_text("{"),
        lambda file: file.write_text('{"format_version": 1, "tokens": [{}]}'),
        lambda file: file.unlink(),
        lambda file: file.chmod(0o644),
    ],
)
def test_a_broken_file_leaves_the_last_good_one(file: Path, harm, caplog: pytest.LogCaptureFixture):
    token, _ = token_file.add(file, "uni", ["infer"], 1)
    served = TokenFile(file)
    kept = file.read_bytes()
    harm(file)
    assert served.grant_of(token).site == "uni"
    served.grant_of(token)
    errors = [one for one in caplog.records if one.levelname == "ERROR"]
    assert len(errors) == 1, "told once, not at every request"
    assert f"the last good ones stay in use: {file}: " in errors[0].getMessage()
    file.unlink(missing_ok=True)
    file.write_bytes(kept)
    file.chmod(0o600)
    token_file.revoke(file, next(iter(read_grants(file))))
    with pytest.raises(NotAuthenticated, match="revoked"):
        served.grant_of(token)


BROKEN = {
    "no JSON": ("{", "no tokens file"),
    "a list": ("[]", "no tokens file"),
    "no tokens": ('{"format_version": 1}', "no tokens file"),
    "version": ('{"format_version": 2, "tokens": []}', "format_version: this version reads 1"),
    "site": ({"site": "a b"}, "site: 'a b'"),
    "digest": ({"digest": 7}, "no tokens file"),
    "roles": ({"roles": "infer"}, "no tokens file"),
    "role": ({"roles": ["Infer"]}, "roles: "),
    "time": ({"expires": "soon"}, "no tokens file"),
    "zone": ({"expires": "2031-01-01T00:00:00"}, "issued, expires: a time without its zone"),
    "revoked": ({"revoked": "no"}, "no tokens file"),
    "unknown field": ({"more": 1}, "no tokens file"),
}


@pytest.mark.parametrize(("content", "reason"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_tokens_file(file: Path, content: str | dict, reason: str):
    token_file.add(file, "uni", ["infer"], 1)
    if isinstance(content, dict):
        document = json.loads(file.read_text())
        document["tokens"][0].update(content)
        content = json.dumps(document)
    file.write_text(content)
    with pytest.raises(InvalidTokens) as caught:
        TokenFile(file)
    assert str(caught.value).startswith(f"{file}: {reason}")


def test_missing_open_and_unknown(file: Path):
    with pytest.raises(InvalidTokens, match="no tokens file; make one with"):
        TokenFile(file)
    token_file.add(file, "uni", ["infer"], 1)
    with pytest.raises(InvalidTokens, match="no token abc; see: veilseg token list"):
        token_file.revoke(file, "abc")
    file.chmod(0o640)
    with pytest.raises(InvalidTokens, match=r"open to others \(mode 640\)"):
        TokenFile(file)
    with pytest.raises(InvalidTokens, match="the folder is missing"):
        token_file.add(file.parent / "none" / "tokens.json", "uni", ["infer"], 1)


def test_a_file_that_cannot_be_read(file: Path, monkeypatch: pytest.MonkeyPatch):
    token_file.add(file, "uni", ["infer"], 1)

    def refuse(*_: object, **__: object) -> str:
        # Who runs the tests may be root, who reads every file.
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(InvalidTokens, match=r"tokens\.json: cannot be read: Permission denied"):
        TokenFile(file)


def test_a_file_that_somebody_else_changes(file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(token_file, "LOCK_TIMEOUT_S", 0.05)
    with (
        FileLock(file.parent / f".{file.name}.lock"),
        pytest.raises(InvalidTokens, match=r"tokens\.json: somebody else is changing it"),
    ):
        token_file.add(file, "uni", ["infer"], 1)
    (file.parent / f".{file.name}.lock").unlink(missing_ok=True)
    (file.parent / f".{file.name}.lock").mkdir()
    with pytest.raises(InvalidTokens, match=r"tokens\.json: cannot be written: "):
        token_file.add(file, "uni", ["infer"], 1)


def test_tokens_issued_at_once_are_all_kept(file: Path):
    threads = [
        threading.Thread(target=token_file.add, args=(file, f"site{i}", ["infer"], 1))
        for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {grant.site for grant in read_grants(file).values()} == {f"site{i}" for i in range(8)}
