"""``veilseg bench`` as it is typed."""

import json
from collections.abc import Callable
from pathlib import Path

import phantoms
import pytest

from veilseg.bench.site import PHASES


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return phantoms.make_dataset(tmp_path / "data", ("a", "b", "c"))


def test_site_tells_all_of_its_time(
    veilseg: Callable, plain_bundle: Path, mixup_bundle: Path, data: Path, tmp_path: Path
):
    out = tmp_path / "site.json"
    bundles = (plain_bundle, mixup_bundle)
    options = ("--dataset", data, "--json", out, "--budget-images", 2)
    ended = veilseg("bench", "site", *bundles, *options)
    assert ended.code == 0, ended.err
    found = json.loads(out.read_text())
    assert (found["bench"], found["n_images"]) == ("site", 2)
    assert set(found["bundles"]) == {"phantom-plain", "phantom-mixup"}
    for entry in found["bundles"].values():
        each = entry["milliseconds"]
        assert set(each) == {*PHASES, "rest", "total"}
        # Medians of phases need not add up, but nothing is counted twice or below nothing.
        assert all(each[phase] >= 0 for phase in PHASES)
        assert each["wait"] < each["total"]
        assert entry["mean_image"]["tiles"] >= 1
        assert len(entry["total_ms"]) == 2
    ledger = {name: one["milliseconds"]["ledger"] for name, one in found["bundles"].items()}
    assert ledger["phantom-mixup"] > ledger["phantom-plain"]


def test_what_cannot_be_measured_ends_in_one_line(
    veilseg: Callable, plain_bundle: Path, data: Path, tmp_path: Path
):
    out = tmp_path / "out.json"
    few = veilseg("bench", "site", plain_bundle, "--dataset", data, "--json", out)
    assert (few.code, few.errors) == (
        3,
        [f"veilseg: --budget-images 20: {data} has 3 images, and 21 are needed"],
    )
    nowhere = veilseg("bench", "runtime", plain_bundle, "--json", tmp_path / "no" / "x.json")
    assert nowhere.code == 3
    assert "no/x.json: folder" in nowhere.errors[0]
    out.write_text("{}")
    plan = veilseg("bench", "plan", out, "--json", tmp_path / "plan.json")
    assert plan.code == 3
    assert "no result of veilseg bench serve" in plan.errors[0]
    assert not (tmp_path / "plan.json").exists()


def test_soak_and_volume_by_real_servers(veilseg: Callable, mixup_bundle: Path, tmp_path: Path):
    out = tmp_path / "soak.json"
    options = ("--minutes", 0.05, "--clients", 2, "--json", out)
    ended = veilseg("bench", "soak", mixup_bundle, *options)
    assert ended.code == 0, ended.err
    found = json.loads(out.read_text())
    assert found["failures"] == {}
    assert found["memory"]["first_mib"] > 20
    out = tmp_path / "volume.json"
    ended = veilseg("bench", "volume", mixup_bundle, "--shape", "40x40x30", "--json", out)
    assert ended.code == 0, ended.err
    (row,) = json.loads(out.read_text())["bundles"].values()
    assert row["site_peak_mib"] > 50
    assert len(row["server_mib"]) == len(row["seconds"]) == 3
    *_, (_, done, total) = row["progress"]
    assert done == total > 1
    wrong = veilseg("bench", "volume", mixup_bundle, "--shape", "40x40", "--json", out)
    assert (wrong.code, wrong.errors) == (2, ["veilseg: --shape 40x40: give XxYxZ, as 512x512x400"])
