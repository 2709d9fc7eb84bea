"""Programs of environments of their own that do one thing each time they are asked.

They write a line of JSON when they are ready and one for each line that they read; they end when
there is nothing more to read, so that none is left where this process is killed.
"""

import contextlib
import json
import queue
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final

from veilseg.bench.contenders import NotRun
from veilseg.child_processes import stop

ANSWER_TIMEOUT_S: Final = 600.0
STOP_TIMEOUT_S: Final = 5.0


class Worker:
    """One such program while it runs."""

    def __init__(self, name: str, process: "subprocess.Popen[str]", errors: IO[str]) -> None:
        self._name, self._process, self._errors = name, process, errors
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        # Reading blocks, so it gets a thread; the thread ends with the pipe.
        threading.Thread(target=self._read, daemon=True).start()

    def ask(self) -> None:
        """Let it begin; :meth:`answer` waits for its end."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # answer tells why it ended
            self._process.stdin.write("go\n")
            self._process.stdin.flush()

    def answer(self, timeout_s: float = ANSWER_TIMEOUT_S) -> dict[str, Any]:
        """The next line that it writes.

        Raises
        ------
        NotRun
            If it ended, with the last line of its errors, or takes too long.
        """
        try:
            line = self._lines.get(timeout=timeout_s)
        except queue.Empty:
            raise NotRun(f"{self._name}: no answer in {timeout_s:g} s") from None
        if not line:
            self._process.wait()
            self._errors.seek(0)
            last = (self._errors.read().strip().splitlines() or ["it wrote nothing"])[-1]
            raise NotRun(f"{self._name}: it ended with {self._process.returncode}: {last}")
        found: dict[str, Any] = json.loads(line)
        return found

    def _read(self) -> None:
        with contextlib.suppress(ValueError):  # closed while it was read
            for line in self._process.stdout or ():
                # Libraries write to the same place; what is asked for is an object.
                if line.startswith("{"):
                    self._lines.put(line)
        self._lines.put("")


@contextlib.contextmanager
def worker(python: Path, program: Path, options: Sequence[object]) -> Iterator[Worker]:
    """Run a program; it may not be ready yet, which its first :meth:`Worker.answer` says."""
    command = [str(python.absolute()), str(program), *map(str, options)]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        try:
            yield Worker(program.stem, process, errors)
        finally:
            stop(process, STOP_TIMEOUT_S)
