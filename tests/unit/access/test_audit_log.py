"""A log in which nothing changes unseen, and that says when it could not be written."""

import errno
import json
import os
import resource
import stat
import threading
from pathlib import Path

import pytest

from veilseg.access import audit_log
from veilseg.access.audit_log import AuditLog, Head, verify
from veilseg.access.errors import AuditLogBroken, AuditLogFailed
from veilseg.errors import InvalidInput


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A log of five entries."""
    file = tmp_path / "audit.jsonl"
    with AuditLog(file) as log:
        for number in range(5):
            log.append(action="infer", site="uni", model="tiny", bytes=100 + number)
    return file


def rewritten(file: Path, edit) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(edit(lines)))


def test_what_is_written(file: Path):
    entries = [json.loads(line) for line in file.read_text().splitlines()]
    assert [entry["n"] for entry in entries] == [1, 2, 3, 4, 5]
    assert entries[0]["previous"] == "0" * 64
    assert set(entries[0]) == {"n", "time", "action", "site", "model", "bytes", "previous"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    start, end = verify([file])
    assert (start, end.count) == (Head(), 5)


def test_the_chain_goes_on_after_a_restart(file: Path):
    with AuditLog(file) as log:
        assert log.head == verify([file])[1]
        log.append(action="infer")
    assert verify([file])[1].count == 6


def test_heads_are_told(file: Path, caplog: pytest.LogCaptureFixture, monkeypatch):
    monkeypatch.setattr(audit_log, "ENTRIES_PER_TOLD_HEAD", 3)
    heads = [verify([file])[1]]
    with caplog.at_level("INFO"), AuditLog(file) as log:
        for _ in range(3):
            log.append(action="infer")
            heads.append(log.head)
    told = [Head.parse(one.getMessage().rpartition(" ")[2]) for one in caplog.records]
    # At the start, with every third entry, and at the end.
    assert told == [heads[0], heads[1], heads[3]]
    assert all(verify([file], one) for one in told)


CHANGES = {
    "a field": lambda lines: [lines[0], lines[1].replace(b"101", b"999"), *lines[2:]],
    "a line removed": lambda lines: lines[:2] + lines[3:],
    "a line doubled": lambda lines: lines[:2] + lines[1:],
    "lines swapped": lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
    "the first removed": lambda lines: [
        line.replace(b'"n":%d' % (i + 2), b'"n":%d' % (i + 1)) for i, line in enumerate(lines[1:])
    ],
    "the beginning removed": lambda lines: [lines[1].replace(b'"n":2', b'"n":1'), *lines[2:]],
}


@pytest.mark.parametrize("edit", CHANGES.values(), ids=CHANGES)
def test_changes_are_found(file: Path, edit):
    rewritten(file, edit)
    with pytest.raises(AuditLogBroken, match=r"does not follow|is no beginning"):
        verify([file])


@pytest.mark.parametrize("harm", [b"no JSON\n", b"[]\n", b'{"n":true,"previous":""}\n', b'{"n":6'])
def test_what_is_no_line(file: Path, harm: bytes):
    rewritten(file, lambda lines: [*lines, harm])
    with pytest.raises(AuditLogBroken, match="line 6 is no whole line"):
        verify([file])


def test_a_cut_end_shows_against_a_head_and_only_then(file: Path):
    _, head = verify([file])
    rewritten(file, lambda lines: lines[:3])
    assert verify([file])[1].count == 3
    with pytest.raises(AuditLogBroken, match=r"the head 5:.* is not in the log"):
        verify([file], head)


def test_a_log_written_anew_shows_against_a_head(file: Path, tmp_path: Path):
    _, head = verify([file])
    file.unlink()
    with AuditLog(file) as log:
        for number in range(7):
            log.append(action="infer", site="other", bytes=number)
    verify([file])
    with pytest.raises(AuditLogBroken, match="is not in the log"):
        verify([file], head)


def test_an_older_head_stays_good(file: Path):
    _, head = verify([file])
    with AuditLog(file) as log:
        log.append(action="infer")
    assert verify([file], head)[1].count == 6
    assert verify([file], Head())[1].count == 6
    assert Head.parse(f"{head}\n") == head


@pytest.mark.parametrize(
    "text", ["", "5", "5:abc", "x:" + "0" * 64, "5:" + "G" * 64, "-1:" + "0" * 64]
)
def test_what_is_no_head(text: str):
    with pytest.raises(InvalidInput, match="head: write it as"):
        Head.parse(text)


def test_half_a_line_of_a_crash_is_taken_off(file: Path):
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"n":6,"time":"20')
    with AuditLog(file) as log:
        assert log.head.count == 5
        log.append(action="infer")
    assert file.read_bytes().startswith(whole)
    assert verify([file])[1].count == 6


def test_one_process_writes(file: Path):
    with AuditLog(file), pytest.raises(InvalidInput, match="another server writes this audit log"):
        AuditLog(file)


def test_a_file_that_is_no_log(tmp_path: Path):
    other = tmp_path / "notes"
    other.write_text("hello\n")
    with pytest.raises(AuditLogBroken, match="the last line is no whole line"):
        AuditLog(other)
    assert other.read_text() == "hello\n"
    with pytest.raises(AuditLogBroken, match="the last line is no whole line"):
        AuditLog(other)  # and it was let go of: what is said is the same
    with pytest.raises(InvalidInput, match="cannot be written: Is a directory"):
        AuditLog(tmp_path)
    with pytest.raises(InvalidInput, match="cannot be written: the folder is missing"):
        AuditLog(tmp_path / "none" / "audit.jsonl")
    assert not (tmp_path / "none").exists()
    with pytest.raises(InvalidInput, match="cannot be read: No such file"):
        verify([tmp_path / "none"])


def test_a_moved_file_is_gone_on_from(file: Path, tmp_path: Path):
    old = tmp_path / "audit.1"
    with AuditLog(file) as log:
        file.rename(old)
        log.append(action="infer")
        log.append(action="infer")
    assert verify([old, file])[1].count == 7
    start, end = verify([file])
    assert (start, end.count) == (verify([old])[1], 7)
    with pytest.raises(AuditLogBroken, match="line 1 does not follow"):
        verify([file, old])


@pytest.mark.parametrize("fails", ["write", "fsync"])
def test_a_full_disk_leaves_no_half_line(file: Path, fails: str, monkeypatch: pytest.MonkeyPatch):
    before = file.read_bytes()
    write, fsync = os.write, os.fsync

    def full(handle: int, data: bytes) -> int:
        if fails == "write" and len(data) <= 10:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(handle, data[:10] if fails == "write" else data)

    def failing(handle: int) -> None:
        if fails == "fsync":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    with AuditLog(file) as log:
        with monkeypatch.context() as patched:
            patched.setattr(audit_log.os, "write", full)
            patched.setattr(audit_log.os, "fsync", failing)
            with pytest.raises(AuditLogFailed, match="No space left on device"):
                # The rest that does not fit any more is what fails.
                log.append(action="infer", site="u" * 5)
        assert file.read_bytes() == before
        log.append(action="infer")
    assert verify([file])[1].count == 6


def test_a_disk_that_is_really_full(file: Path):
    before = file.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with AuditLog(file) as log:
        # The kernel takes the first bytes of the line and then no more.
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))
        try:
            with pytest.raises(AuditLogFailed, match="File too large"):
                log.append(action="infer", site="uni")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert file.read_bytes() == before
        log.append(action="infer", site="uni")
    assert verify([file])[1].count == 6


def test_every_entry_is_on_the_disk_before_it_counts(file: Path, monkeypatch: pytest.MonkeyPatch):
    synced: list[bytes] = []
    monkeypatch.setattr(audit_log.os, "fsync", lambda _: synced.append(file.read_bytes()))
    with AuditLog(file) as log:
        log.append(action="infer", site="here")
        assert b'"site":"here"' in synced[-1]
        count = len(synced)
    with AuditLog(file, sync=False) as log:
        before = len(synced)
        log.append(action="infer")
        assert len(synced) == before
    # Closing always does.
    assert len(synced) > before >= count


def test_threads_share_a_log(file: Path):
    with AuditLog(file, sync=False) as log:
        threads = [
            threading.Thread(target=lambda: [log.append(action="infer") for _ in range(50)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert verify([file])[1].count == 205
