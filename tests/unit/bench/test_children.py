"""Commands as processes of their own: what they tell, and how they fail."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from veilseg.bench.evidence import children
from veilseg.bench.evidence.children import veilseg
from veilseg.errors import IntegrityError, InvalidInput, ServerError, VeilsegError


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have a shell script run in place of Python."""

    def write(text: str) -> None:
        script = tmp_path / "python"
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o755)
        monkeypatch.setattr(children.sys, "executable", str(script))

    return write


def test_a_command_of_ours_is_run(tmp_path):
    veilseg("key", "new", tmp_path / "consortium.key", note=pytest.fail)
    assert (tmp_path / "consortium.key").is_file()


def test_progress_is_passed_on_and_nothing_else(program):
    program("echo 'name: 3/10 training loss 0.1' >&2; echo warning >&2; echo 'audit: 1/5' >&2")
    told: list[str] = []
    veilseg("train", note=told.append)
    assert told == ["3/10 training loss 0.1", "1/5"]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (1, VeilsegError),
        (2, InvalidInput),
        (3, InvalidInput),
        (4, ServerError),
        (5, IntegrityError),
    ],
)
def test_errors_keep_their_branch_and_line(program, code, kind):
    program(f"echo 'x: 1/2' >&2; echo 'veilseg: it cannot be' >&2; exit {code}")
    with pytest.raises(VeilsegError, match=r"^audit: it cannot be$") as failed:
        veilseg("audit", note=lambda told: None)
    assert type(failed.value) is kind


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_command_that_was_killed_is_told_so(program):
    program("kill -9 $$")
    with pytest.raises(VeilsegError, match=r"^train: ended by signal 9$"):
        veilseg("train", note=lambda told: None)


def test_a_command_ends_with_what_listens_to_it(program, tmp_path):
    program(f"trap 'touch {tmp_path}/ended; exit' TERM; echo 'x: 1/2' >&2; sleep 5 & wait")

    def interrupted(told: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        veilseg("train", note=interrupted)
    assert (tmp_path / "ended").exists()
