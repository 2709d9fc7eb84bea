"""CrypTen, TenSEAL and Flower as they are, in the environments of ``make bench-families``."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import phantoms
import pytest
from safetensors.numpy import load_file

from veilseg.datasets.layout import read_dataset
from veilseg.datasets.split import split_by_patient

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".venv" / "peers"
pytestmark = pytest.mark.long


@pytest.mark.timeout(900)
def test_a_layer_is_what_it_is_in_the_clear(veilseg: Callable, tmp_path: Path):
    out = tmp_path / "families.json"
    bundle = ROOT / "models" / "hippocampus-mixup"
    options = ("--json", out, "--budget-s", 0, "--peers", PEERS)
    ended = veilseg("bench", "families", bundle, *options)
    assert ended.code == 0, ended.err
    found = json.loads(out.read_text())
    rows = {row["family"]: row for row in found["families"]}
    assert {row["status"] for row in rows.values()} == {"run"}
    # Answers are of the size of one. 16 bits after the point in CrypTen, hundreds of which are
    # added up; 24 bits in CKKS, less its noise. In the clear it is float32.
    assert found["plain"]["largest_error"] < 1e-5
    for row in rows.values():
        assert found["plain"]["largest_error"] < row["largest_error"] < 2e-3
        assert row["times_plain"]["interval"][0] > 1
    # Each number of image and weights is opened by both parties, each answer dealt: 8 bytes each.
    layer, counted = found["layer"], rows["CrypTen"]["phases"]["convolve"]["bytes"]
    planes, channels, *grid = layer["image"]
    numbers = planes * channels * grid[0] * grid[1] + layer["weight"][0] * channels * 9
    assert counted == pytest.approx(8 * (2 * numbers + layer["outputs"]), rel=0.01)
    assert rows["TenSEAL"]["parameters"]["slots"] >= planes * grid[0] * grid[1]


def test_ckks_refuses_parameters_with_less_security():
    program = (
        "import tenseal as ts, sys; sys.path.insert(0, sys.argv[1]);"
        "from tenseal_layer import DEGREE, MODULUS_BITS;"
        "ts.context(ts.SCHEME_TYPE.CKKS, DEGREE, coeff_mod_bit_sizes=list(MODULUS_BITS));"
        "print('these are taken');"
        "ts.context(ts.SCHEME_TYPE.CKKS, DEGREE // 2, coeff_mod_bit_sizes=list(MODULUS_BITS))"
    )
    python, programs = PEERS / "tenseal" / "bin" / "python", ROOT / "src/veilseg/bench/peers"
    ended = subprocess.run(
        [python, "-c", program, programs], capture_output=True, text=True, timeout=60
    )
    assert ended.stdout == "these are taken\n"
    assert ended.returncode != 0
    assert "parameters are not set correctly" in ended.stderr


@pytest.mark.timeout(1800)
def test_federated_averaging_is_killed_and_goes_on(tmp_path: Path):
    data, trial = tmp_path / "data", tmp_path / "trial"
    folder = phantoms.make_dataset(data / "retina_vessels", tuple(f"p{n:02d}" for n in range(20)))
    table = folder / "cases.csv"
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    clinics = ("DRIVE" if one["patient"] < "p12" else "CHASE_DB1" for one in rows)
    lines = [f"{one['case']},{one['patient']},{c}" for one, c in zip(rows, clinics, strict=True)]
    table.write_text("\n".join(["case,patient,site", *lines]) + "\n")
    command = [
        *(sys.executable, str(ROOT / "scripts" / "claims.py"), "--trial", str(trial)),
        *("--foreground", "--only", "fedavg-retina"),
    ]
    environment = {**os.environ, "VEILSEG_DATA": str(data)}
    # Killed in the middle of the control's rounds, as soon as there is something to go on from.
    begun = (
        trial / "work" / "federations" / "centers-retina-fedavg-control" / "average-0.safetensors"
    )
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while not begun.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1500)
    assert ended.returncode == 0, ended.stderr
    found = json.loads((trial / "results" / "fedavg-retina.json").read_text())
    # One site averaged with nobody is that site's own training.
    assert found["control"]["largest_weight_difference"] == 0
    assert found["control"]["dice"]["local"] == found["control"]["dice"]["averaged"]
    fit = found["fits"]["fedavg"]
    for one in fit["sites"].values():
        # All weights in float32, once each way in each round.
        assert one["sent"] == one["received"] > 9_000_000 * fit["of"]["rounds"]
    assert set(found["ways"]["fedavg"]["on"]) == {"drive", "chase-db1"}


@pytest.mark.timeout(1800)
def test_rounds_that_were_killed_lead_to_the_same_average(tmp_path: Path):
    people = {"a": ("p", "q", "r", "s", "t"), "b": ("u", "v", "w", "x", "y", "z", "zz")}
    data = {site: phantoms.make_dataset(tmp_path / site, those) for site, those in people.items()}
    told = {
        "data": {site: str(one) for site, one in data.items()},
        "data_sha256": dict.fromkeys(data, ""),
        "cases": {s: len(split_by_patient(read_dataset(one)).train) for s, one in data.items()},
        **{"steps": 12, "rounds": 3, "seed": 1},
    }
    program = (
        "import sys; from pathlib import Path; from evidence import federated;"
        "federated._rounds(Path(sys.argv[1]), ['a', 'b'])"
    )

    def rounds(at: Path) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, "-c", program, at], cwd=ROOT / "scripts")

    averages = {}
    for name in ("whole", "killed"):
        at = tmp_path / name
        begin = [sys.executable, "-m", "federated.first_site", "begin", at, "--told"]
        subprocess.run([*begin, json.dumps(told)], cwd=ROOT / "scripts", check=True)
        if name == "killed":
            process = rounds(at)
            deadline = time.monotonic() + 600
            while not (at / "rounds.json").exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert len(json.loads((at / "rounds.json").read_text())) < 3
        assert rounds(at).wait() == 0
        assert len(json.loads((at / "rounds.json").read_text())) == 3
        averages[name] = load_file(at / "average-3.safetensors")
    whole, killed = averages.values()
    assert all(np.array_equal(whole[name], killed[name]) for name in whole)
