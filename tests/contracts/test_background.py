"""Commands side by side: all end together, whichever of them fails."""

import subprocess
import sys
import time

import pytest
from evidence.background import side_by_side

SLEEP = (sys.executable, "-c", "import time; time.sleep(60)")


def python(code: str) -> tuple[str, ...]:
    return sys.executable, "-c", code


def test_they_run_at_the_same_time_with_the_same_environment(tmp_path):
    # Each waits for what the other writes.
    code = (
        "import os, pathlib, time; p = pathlib.Path(os.environ['PLACE']);"
        "(p / '{0}').touch()\nwhile not (p / '{1}').exists(): time.sleep(0.01)"
    )
    pair = (python(code.format(*names)) for names in (("a", "b"), ("b", "a")))
    side_by_side(*pair, environment={"PLACE": str(tmp_path)}, timeout_s=30)


@pytest.mark.parametrize("order", [0, 1])
def test_one_that_fails_ends_the_others(order):
    commands = [SLEEP, python("raise SystemExit(3)")]
    begun = time.monotonic()
    with pytest.raises(subprocess.CalledProcessError) as caught:
        side_by_side(*(commands[order], commands[1 - order]), environment={})
    assert caught.value.returncode == 3
    assert time.monotonic() - begun < 30


def test_one_that_goes_on_after_the_first_has_ended_is_told():
    with pytest.raises(subprocess.CalledProcessError) as caught:
        side_by_side(python("pass"), SLEEP, environment={}, timeout_s=0.5)
    assert "time.sleep(60)" in " ".join(caught.value.cmd)
