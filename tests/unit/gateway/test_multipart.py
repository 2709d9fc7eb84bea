"""Forms piece by piece: cut anywhere they are the same, and their files take no memory."""

import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from veilseg.gateway.errors import InvalidRequest
from veilseg.gateway.multipart import FIELD_BYTES, MOST_FIELDS, MultipartForm

BOUNDARY = "cut-here"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def part(name: str, content: bytes, filename: str | None = None, more: str = "") -> bytes:
    file = "" if filename is None else f'; filename="{filename}"'
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n{more}\r\n'
    return head.encode() + content + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()
WHOLE = (
    part("params", b'{"a": 1}')
    + part("files", bytes(range(256)) * 40, "Erika_0000.dcm", "Content-Type: image/x\r\n")
    + part("files", b"--cut\r\n--cut-her\r\n", "b.dcm")
    + part("file", b"", "empty")
    + END
)


def open_files() -> int:
    """How many this process has open, where the system tells."""
    told = Path("/proc/self/fd")
    return len(list(told.iterdir())) if told.is_dir() else 0


def taken(folder: Path, pieces: list[bytes], most_files: int = 5):
    with MultipartForm(CONTENT_TYPE, folder, most_files) as form:
        for piece in pieces:
            form.write(piece)
        return form.finish()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(cuts=st.lists(st.integers(0, len(WHOLE)), max_size=12))
def test_a_form_is_the_same_wherever_it_is_cut(tmp_path, cuts):
    places = [0, *sorted(cuts), len(WHOLE)]
    form = taken(tmp_path, [WHOLE[a:b] for a, b in pairwise(places)])
    assert form.fields == {"params": '{"a": 1}'}
    found = {
        name: [(one.name, one.path.read_bytes(), one.size) for one in files]
        for name, files in form.files.items()
    }
    first, second = bytes(range(256)) * 40, b"--cut\r\n--cut-her\r\n"
    assert found == {
        "files": [("Erika_0000.dcm", first, len(first)), ("b.dcm", second, len(second))],
        "file": [("empty", b"", 0)],
    }
    assert {path.name for path in tmp_path.iterdir()} == {"000000", "000001", "000002"}


def test_files_are_on_disk_as_they_come_and_one_is_open_at_a_time(tmp_path):
    content = os.urandom(200_000)
    with MultipartForm(CONTENT_TYPE, tmp_path, 300) as form:
        before = open_files()
        for number in range(300):
            form.write(part("files", content, f"{number}.dcm"))
            assert open_files() <= before + 1
        assert len(form.form.files["files"]) == 299  # the last one may go on
        form.write(END)
        found = form.finish()
    assert sum(one.path.stat().st_size for one in found.files["files"]) == 300 * len(content)


@pytest.mark.parametrize(
    ("pieces", "told"),
    [
        ([WHOLE[: len(WHOLE) // 2]], "cut short"),
        ([b"no form at all"], "no form"),
        ([f"--{BOUNDARY}\r\n\r\nx\r\n".encode(), END], "no name"),
        ([part("a", b"x" * (FIELD_BYTES + 1)), END], f"more than {FIELD_BYTES} bytes"),
        ([part("a", b"", more=f"X: {'y' * 100_000}\r\n"), END], "no form"),
        ([part(str(n), b"") for n in range(MOST_FIELDS + 1)], "Too many fields"),
        ([part("files", b"", str(n)) for n in range(6)], "Too many files"),
    ],
    ids=["cut short", "no form", "no name", "long field", "long header", "fields", "files"],
)
def test_what_is_no_form_of_ours_is_refused(tmp_path, pieces, told):
    with pytest.raises(InvalidRequest, match=told):
        taken(tmp_path, pieces)


@pytest.mark.parametrize("boundary", ["", f"; boundary={'x' * 999}"])
def test_a_form_without_a_boundary(tmp_path, boundary):
    with pytest.raises(InvalidRequest, match="boundary"):
        MultipartForm(f"multipart/form-data{boundary}", tmp_path, 5)
