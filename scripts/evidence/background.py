"""Measurements in the background, whose commands end when they are killed."""

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from veilseg.demo.server import END_WITH_PARENT

LOCK, LOG = "claims.pid", "claims.log"


def start(work: Path, command: Sequence[str | Path]) -> "subprocess.Popen[bytes]":
    """Start a command detached from this terminal, its output in the log."""
    work.mkdir(parents=True, exist_ok=True)
    with (work / LOG).open("ab") as log:
        return subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a command that ends when this process does, even if that is killed.

    Otherwise a training would go on alone, and the next start would write to the same files.
    """
    print("$", *command, flush=True)
    done = subprocess.run(
        list(map(str, command)),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=cwd,
        preexec_fn=END_WITH_PARENT,
    )
    print(done.stdout, end="", flush=True)
    return done.stdout


@contextlib.contextmanager
def serving(*command: str | Path, ready: str) -> Iterator[str]:
    """Run a service while the block runs; gives what follows ``ready`` in its output.

    Raises
    ------
    CalledProcessError
        If it ends before it is ready.
    """
    print("$", *command, flush=True)
    with subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=END_WITH_PARENT,
    ) as service:
        assert service.stdout is not None
        line = next((line for line in service.stdout if line.startswith(ready)), None)
        if line is None:
            raise subprocess.CalledProcessError(service.wait(), list(map(str, command)))
        try:
            yield line.removeprefix(ready).strip()
        finally:
            service.terminate()


def last_line(work: Path) -> str:
    """What the log said last; empty where there is none."""
    file = work / LOG
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    return text.rstrip().rpartition("\n")[2]
