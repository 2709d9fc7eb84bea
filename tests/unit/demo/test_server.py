"""The demo's server is gone when the demo is, whenever Ctrl-C comes."""

import os
import signal
import subprocess
import sys

import pytest

from veilseg.demo import server


@pytest.mark.skipif(os.name != "posix", reason="sends itself SIGINT")
def test_interrupt_while_the_server_starts_leaves_no_server(monkeypatch):
    started = []
    start = subprocess.Popen

    def interrupted(command, **options):
        sleeper = start([sys.executable, "-c", "import time; time.sleep(600)"], **options)
        started.append(sleeper)
        os.kill(os.getpid(), signal.SIGINT)  # before anybody knows the process
        return sleeper

    monkeypatch.setattr(server.subprocess, "Popen", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), server.server_process([]):
            pytest.fail("the interrupt was not heard")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    (sleeper,) = started
    assert sleeper.returncode == -signal.SIGTERM
