"""Waiting for what other processes do, and looking at what runs."""

import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

import psutil

Found = TypeVar("Found")
SECONDS_BETWEEN_LOOKS = 0.02


def until(
    condition: Callable[[], Found],
    while_running: "subprocess.Popen[str] | None" = None,
    seconds: float = 60,
) -> Found:
    """The first true value of a condition that soon comes true, while a process runs."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        if while_running is not None:
            assert while_running.poll() is None, while_running.communicate()
        time.sleep(SECONDS_BETWEEN_LOOKS)
    raise AssertionError("it did not come true")


def descendants(process: int) -> list[psutil.Process]:
    """Children of a process, and theirs."""
    return psutil.Process(process).children(recursive=True)


def alive(process: psutil.Process | int) -> bool:
    """Whether it runs; what waits to be buried does not."""
    try:
        known = psutil.Process(process) if isinstance(process, int) else process
        return known.is_running() and known.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
