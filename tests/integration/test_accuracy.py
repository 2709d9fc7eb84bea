"""What the shipped bundles reach on people they have not seen, measured anew."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from veilseg.cli.main import app
from veilseg.evaluation.bootstrap import bootstrap_difference
from veilseg.evaluation.dice import mean_foreground, side_by_side

ROOT = Path(__file__).resolve().parents[2]
LARGEST_LOSS = 0.02

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


def measured(bundle: str, dataset: Path, folder: Path) -> dict:
    out = folder / f"{bundle}.json"
    arguments = ["evaluate", ROOT / "models" / bundle, dataset, "--split", "test"]
    done = CliRunner().invoke(app, list(map(str, [*arguments, "--json", out])))
    assert done.exit_code == 0, done.output
    return json.loads(out.read_text())


def per_case(result: dict) -> list[float]:
    return [mean_foreground(list(case["dice"].values())) for case in result["cases"]]


@pytest.mark.parametrize(
    ("family", "dataset", "least_plain", "least_people"),
    [("hippocampus", "hippocampus", 0.875, 7), ("brain-tissue", "brain_t1_oasis_3d", 0.85, 5)],
)
def test_private_is_nearly_as_good_as_plain(
    shared_data, tmp_path, family, dataset, least_plain, least_people
):
    plain, mixup = (
        measured(f"{family}-{scheme}", shared_data / dataset, tmp_path)
        for scheme in ("plain", "mixup")
    )
    assert plain["n_patients"] >= least_people
    assert plain["mean_dice"] >= least_plain
    people = [case["patient"] for case in plain["cases"]]
    margin = bootstrap_difference(*side_by_side(per_case(mixup), per_case(plain)), people)
    assert margin.mean >= -LARGEST_LOSS
    # The method against its own baseline: the network has to earn its place.
    assert mixup["mean_dice"] > mixup["variants"]["algebraic"]
    for scheme, found in (("plain", plain), ("mixup", mixup)):
        stored = json.loads((ROOT / "results" / f"{family}-{scheme}.json").read_text())
        assert found["mean_dice"] == pytest.approx(stored["mean_dice"], abs=2e-3)
