"""Measurements in the background, whose commands end when they are killed."""

import contextlib
import ctypes
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

LOCK, LOG = "claims.pid", "claims.log"
PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>
SECONDS_BETWEEN_LOOKS = 0.2


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
        preexec_fn=end_with_parent if sys.platform == "linux" else None,
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
        preexec_fn=end_with_parent if sys.platform == "linux" else None,
    ) as service:
        assert service.stdout is not None
        line = next((line for line in service.stdout if line.startswith(ready)), None)
        if line is None:
            raise subprocess.CalledProcessError(service.wait(), list(map(str, command)))
        try:
            yield line.removeprefix(ready).strip()
        finally:
            service.terminate()


def side_by_side(
    *commands: Sequence[str | Path], environment: Mapping[str, str], timeout_s: float = 60.0
) -> None:
    """Run commands until the first has ended, and the others after it; all end with this process.

    Raises
    ------
    CalledProcessError
        If one of them fails, or goes on though the first has ended.
    """
    with contextlib.ExitStack() as started:
        processes = []
        for command in commands:
            print("$", *command, flush=True)
            process = subprocess.Popen(
                list(map(str, command)),
                env={**os.environ, **environment},
                preexec_fn=end_with_parent if sys.platform == "linux" else None,
            )
            started.callback(process.wait)
            started.callback(process.kill)
            processes.append(process)
        deadline = math.inf
        while any(process.poll() is None for process in processes):
            for process in processes:
                late = process.poll() is None and time.monotonic() > deadline
                if process.poll() or late:
                    raise subprocess.CalledProcessError(process.poll() or 1, process.args)
            if processes[0].poll() is not None:
                deadline = min(deadline, time.monotonic() + timeout_s)
            time.sleep(SECONDS_BETWEEN_LOOKS)


def last_line(work: Path) -> str:
    """What the log said last; empty where there is none."""
    file = work / LOG
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    return text.rstrip().rpartition("\n")[2]


# As in veilseg.demo.server, which environments of other frameworks do not have.
def end_with_parent() -> None:
    """For a process between fork and exec: it is killed when whoever started it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
