"""The experiments of several sites, with as few steps as can be, on phantoms under real names."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import phantoms
import pytest

CLAIMS = Path(__file__).resolve().parents[2] / "scripts" / "claims.py"


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_trial_goes_from_raw_data_to_the_comparison(tmp_path):
    data, trial = tmp_path / "data", tmp_path / "trial"
    folder = phantoms.make_dataset(data / "retina_vessels", tuple(f"p{n:02d}" for n in range(20)))
    table = folder / "cases.csv"
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    clinics = ("DRIVE" if one["patient"] < "p12" else "CHASE_DB1" for one in rows)
    lines = [
        f"{one['case']},{one['patient']},{site}" for one, site in zip(rows, clinics, strict=True)
    ]
    table.write_text("\n".join(["case,patient,site", *lines]) + "\n")

    def run() -> subprocess.CompletedProcess[str]:
        ended = subprocess.run(
            [
                *(sys.executable, str(CLAIMS), "--trial", str(trial)),
                *("--foreground", "--only", "centers-retina"),
            ],
            capture_output=True,
            text=True,
            timeout=1700,
            env={**os.environ, "VEILSEG_DATA": str(data)},
        )
        assert ended.returncode == 0, ended.stderr
        return ended

    first = run()
    (entry,) = json.loads((trial / "results" / "centers.json").read_text())["sets"].values()
    assert set(entry["ways"]) == {"drive", "chase-db1", "encoding", "mixup", "pooled"}
    for scheme in ("encoding", "mixup"):
        fit = entry["schemes"][scheme]["fit"]
        assert fit["seconds"] > 0
        for one in fit["sites"].values():
            assert one["pairs"] == fit["views"] * one["cases"]
            assert one["bytes"] > 0
            assert one["seconds"] > 0
    # A token is a secret: what is logged is read by others.
    for token in trial.rglob("*.token"):
        assert token.read_text().strip() not in first.stdout + first.stderr
    assert "$" not in run().stdout, "what is done is done again"
