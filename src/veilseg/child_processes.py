"""Processes that this one starts, and that are gone when it is."""

import contextlib
import ctypes
import signal
import subprocess
import sys
from typing import Final

STOP_TIMEOUT_S: Final = 20.0
PR_SET_PDEATHSIG: Final = 1  # of <linux/prctl.h>


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


# Run in a child process before its program: the kernel ends it when whoever started it is gone,
# even if that was killed.
END_WITH_PARENT = _end_with_parent if sys.platform == "linux" else None


def stop(process: "subprocess.Popen[str]", timeout_s: float = STOP_TIMEOUT_S) -> None:
    """End a process that may have ended already, and close its pipes.

    Parameters
    ----------
    process : Popen
    timeout_s : float
        That it has to end of itself before it is killed.
    """
    process.terminate()
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            # What it did not read any more cannot be written any more.
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
