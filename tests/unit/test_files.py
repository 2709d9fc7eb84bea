"""A reader never meets half of a file."""

import stat
import tempfile

import pytest

from veilseg.errors import OutputNotWritable
from veilseg.files import write_text_whole, written_whole


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_with_its_content_only_at_the_end(tmp_path):
    target = tmp_path / "out.nii.gz"
    with written_whole(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith(".nii.gz")
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert names(tmp_path) == ["out.nii.gz"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_failed_block_leaves_the_old_file_and_nothing_else(tmp_path, error):
    target = tmp_path / "out.txt"
    target.write_text("old")

    def interrupted():
        with written_whole(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        interrupted()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["out.txt"]


def test_result_has_the_users_usual_mode(tmp_path):
    write_text_whole(tmp_path / "out.txt", "text")
    (tmp_path / "usual.txt").write_text("text")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("out.txt", "usual.txt")}
    assert len(modes) == 1


def test_text_is_utf8(tmp_path):
    write_text_whole(tmp_path / "out.txt", "ŷ = (m̂ − (1 − a)·y_r) / a")
    assert (tmp_path / "out.txt").read_bytes().decode() == "ŷ = (m̂ − (1 − a)·y_r) / a"


def refused(target, reason):
    with pytest.raises(OutputNotWritable, match=reason) as caught:
        write_text_whole(target, "text")
    assert str(caught.value).startswith(f"{target}: cannot be written")


def test_missing_folder_is_named(tmp_path):
    refused(tmp_path / "absent" / "out.txt", "No such file or directory")
    assert names(tmp_path) == []


def test_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").touch()
    refused(tmp_path / "file" / "out.txt", "Not a directory")


def test_target_that_is_a_folder_is_named(tmp_path):
    (tmp_path / "out.txt").mkdir()
    refused(tmp_path / "out.txt", "directory")
    assert names(tmp_path) == ["out.txt"]


def test_name_that_is_too_long_is_refused(tmp_path):
    refused(tmp_path / ("x" * 300 + ".txt"), "too long")
    assert names(tmp_path) == []


def test_disk_that_is_full_is_named(tmp_path):
    target = tmp_path / "out.txt"
    with pytest.raises(OutputNotWritable, match="No space left"), written_whole(target):
        raise OSError(28, "No space left on device")
    assert names(tmp_path) == []


def test_folder_without_write_permission_is_named(tmp_path, monkeypatch):
    # Modes do not bind an administrator, so the refusal is the operating system's by proxy.
    def closed(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "mkstemp", closed)
    refused(tmp_path / "out.txt", "Permission denied")
