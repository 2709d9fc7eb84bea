"""The example of three hospitals, as somebody runs it who has just cloned the project."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "three-hospitals" / "run.py"


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_three_hospitals_are_better_together(tmp_path):
    out = tmp_path / "out"
    ended = subprocess.run(
        [sys.executable, str(EXAMPLE), "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=1700,
        cwd=tmp_path,
    )
    assert ended.returncode == 0, ended.stderr
    table = json.loads((out / "report.json").read_text())
    assert (out / "centers.png").stat().st_size > 10_000
    assert "together, protected" in ended.stdout
    sites = ["north", "south", "coast"]
    for site in sites:
        others = [other for other in sites if other != site]
        alone = sum(table[f"{site} alone"][other] for other in others)
        assert sum(table["together, protected"][other] for other in others) > alone
