"""What the shipped bundles reach on people they have not seen, measured anew."""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from veilseg.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("VEILSEG_DATA", ROOT.parent / "shared" / "data"))
LARGEST_LOSS = 0.05

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not DATA.is_dir(), reason=f"needs the data sets in {DATA.name}"),
]


def measured(bundle: str, dataset: str, folder: Path) -> dict:
    out = folder / f"{bundle}.json"
    arguments = ["evaluate", ROOT / "models" / bundle, DATA / dataset, "--split", "test"]
    done = CliRunner().invoke(app, list(map(str, [*arguments, "--json", out])))
    assert done.exit_code == 0, done.output
    return json.loads(out.read_text())


@pytest.mark.parametrize(
    ("family", "dataset", "least_plain", "least_people"),
    [
        ("hippocampus", "hippocampus", 0.86, 7),
        pytest.param(
            *("brain-tissue", "brain_t1_oasis_3d", 0.82, 5),
            marks=pytest.mark.xfail(
                reason="the loss of the private brain bundle is larger than the target: see "
                "results/margins.json and the README's table"
            ),
        ),
    ],
)
def test_private_is_nearly_as_good_as_plain(tmp_path, family, dataset, least_plain, least_people):
    plain, mixup = (
        measured(f"{family}-{scheme}", dataset, tmp_path) for scheme in ("plain", "mixup")
    )
    assert plain["n_patients"] >= least_people
    assert plain["mean_dice"] >= least_plain
    assert mixup["mean_dice"] >= plain["mean_dice"] - LARGEST_LOSS
    # The method against its own baseline: the network has to earn its place.
    assert mixup["mean_dice"] > mixup["variants"]["algebraic"]
    stored = json.loads((ROOT / "results" / f"{family}-mixup.json").read_text())
    assert mixup["mean_dice"] == pytest.approx(stored["mean_dice"], abs=2e-3)
