"""A real server process for the demo and for measurements, gone when they are."""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from veilseg.child_processes import END_WITH_PARENT, stop
from veilseg.errors import ServerUnreachable

LISTENING = "listening on "
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 10.0


@contextlib.contextmanager
def server_process(
    bundles: list[Path],
    settings: Mapping[str, object] | None = None,
    timeout_s: float = START_TIMEOUT_S,
) -> Iterator[str]:
    """Run ``veilseg serve`` on a free port of this machine; yields its URL.

    Parameters
    ----------
    bundles : list of Path
    settings : mapping, optional
        Further settings of the server by name.
    timeout_s : float
        For it to listen.

    Raises
    ------
    ServerUnreachable
        If it stops or does not listen in time; with the last line it wrote.
    """
    command = [sys.executable, "-m", "veilseg.cli.main", "serve", *map(str, bundles), "--port", "0"]
    told = {f"VEILSEG_SERVE_{name.upper()}": str(value) for name, value in (settings or {}).items()}
    with running(command, {**os.environ, **told}, timeout_s) as url:
        yield url


@contextlib.contextmanager
def running(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    timeout_s: float = START_TIMEOUT_S,
) -> Iterator[str]:
    """Run a program that prints where it listens; yields the URL. Raises as above."""
    process: subprocess.Popen[str] | None = None
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        try:
            with _interrupts_deferred():
                process = subprocess.Popen(
                    command,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    env=environment,
                    preexec_fn=END_WITH_PARENT,
                )
            url = _listening(process, timeout_s)
            if url is None:
                errors.seek(0)
                last = (errors.read().strip().splitlines() or ["it wrote nothing"])[-1]
                raise ServerUnreachable(f"the server did not start: {last}")
            yield url
        finally:
            if process is not None:
                stop(process, STOP_TIMEOUT_S)


@contextlib.contextmanager
def _interrupts_deferred() -> Iterator[None]:
    """Ctrl-C while a process starts would leave it behind, known to nobody: it is heard after."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if ignored or threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if heard:
        raise KeyboardInterrupt


def _listening(process: "subprocess.Popen[str]", timeout_s: float) -> str | None:
    """The URL the server prints once it accepts connections."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        # Reading blocks, so it gets a thread; the thread ends with the pipe.
        with contextlib.suppress(ValueError):
            for line in process.stdout or ():
                lines.put(line)
        lines.put("")

    threading.Thread(target=read, daemon=True).start()
    deadline = time.monotonic() + timeout_s
    while (left := deadline - time.monotonic()) > 0:
        try:
            line = lines.get(timeout=left)
        except queue.Empty:
            return None
        if not line:
            return None
        if line.startswith(LISTENING):
            return line.removeprefix(LISTENING).strip()
    return None
