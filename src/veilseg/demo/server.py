"""A real server process for the demo, gone when the demo is."""

import contextlib
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from veilseg.errors import ServerUnreachable

LISTENING = "listening on "
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 10.0


@contextlib.contextmanager
def server_process(bundles: list[Path]) -> Iterator[str]:
    """Run ``veilseg serve`` on a free port of this machine; yields its URL.

    Raises
    ------
    ServerUnreachable
        If it stops or does not listen in time; with the last line it wrote.
    """
    command = [sys.executable, "-m", "veilseg.cli.main", "serve", *map(str, bundles), "--port", "0"]
    process: subprocess.Popen[str] | None = None
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        try:
            with _interrupts_deferred():
                process = subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=errors, text=True
                )
            url = _listening(process)
            if url is None:
                errors.seek(0)
                last = (errors.read().strip().splitlines() or ["it wrote nothing"])[-1]
                raise ServerUnreachable(f"the demo's server did not start: {last}")
            yield url
        finally:
            if process is not None:
                _stop(process)


def _stop(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


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


def _listening(process: "subprocess.Popen[str]") -> str | None:
    """The URL the server prints once it accepts connections."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        # Reading blocks, so it gets a thread; the thread ends with the pipe.
        with contextlib.suppress(ValueError):
            for line in process.stdout or ():
                lines.put(line)
        lines.put("")

    threading.Thread(target=read, daemon=True).start()
    deadline = time.monotonic() + START_TIMEOUT_S
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
