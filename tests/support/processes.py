"""Services of ``veilseg`` as processes of their own, with all that they log in a file."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

START_TIMEOUT_S = 120


class ServeProcess:
    """A running ``veilseg serve``; stopped, if it still runs, at the end of the block.

    Parameters
    ----------
    log : Path
        Takes standard output and standard error.
    arguments
        As on the command line; ``--port 0`` is added.
    start_timeout_s : float
    """

    COMMAND = "serve"

    def __init__(
        self,
        log: Path,
        *arguments: object,
        start_timeout_s: float = START_TIMEOUT_S,
        **environment: str,
    ) -> None:
        command = [sys.executable, "-m", "veilseg.cli.main", self.COMMAND, *arguments]
        command += ["--port", "0"]
        self.log = log
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdout=stream,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
            )
        try:
            self.url = self._listening(start_timeout_s)
        except BaseException:
            self.kill()
            raise

    def _listening(self, timeout_s: float) -> str:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and self.process.poll() is None:
            if found := re.search(r"^listening on (\S+)\n", self.text, re.MULTILINE):
                return found[1]
            time.sleep(0.02)
        raise AssertionError(f"the server did not start: {self.text}")

    @property
    def text(self) -> str:
        """Everything it wrote so far."""
        return self.log.read_text()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.url.partition("://")[2].rpartition(":")
        return host, int(port)

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()


class GatewayProcess(ServeProcess):
    """A running ``veilseg gateway``."""

    COMMAND = "gateway"
