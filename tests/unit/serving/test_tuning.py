"""How a network is shared out: which sizing is chosen, and that it is found again."""

import json
from pathlib import Path

import numpy as np
import pytest

from veilseg.bundle import open_server_half
from veilseg.cli.serve import serve
from veilseg.errors import InvalidInput, OutputNotWritable
from veilseg.serving import tuning
from veilseg.serving.models import ServedModel
from veilseg.serving.runtime import Sizing
from veilseg.serving.settings import Settings
from veilseg.serving.tuning import (
    Trial,
    Tunings,
    best,
    candidates,
    measured,
    sizing_of,
    tune,
    tune_bundle,
)


@pytest.fixture
def bundle(make_bundle):
    return open_server_half(make_bundle())


def test_candidates_use_all_cores():
    assert candidates(1) == [Sizing(size, 1, 1) for size in tuning.BATCH_SIZES]
    found = candidates(6)
    assert sorted({one.streams for one in found}) == [1, 2, 4, 6]
    assert {one.threads for one in found} == {6}


def test_most_tiles_then_the_soonest_of_those_near():
    plain = Trial(Sizing(1, 1, 4), 9.0, 0.1)
    streams = Trial(Sizing(1, 2, 4), 10.0, 0.2)
    batches = Trial(Sizing(4, 1, 4), 10.2, 0.4)
    assert best([plain, streams, batches]) == streams
    assert best([plain, Trial(Sizing(2, 1, 4), 9.2, 0.2)]) == plain


def test_what_a_model_does_not_take_is_left_out():
    heard = []

    def measure(sizing: Sizing) -> Trial | None:
        return None if sizing.batch_size > 1 else Trial(sizing, 1.0, 1.0)

    chosen, trials = tune(candidates(2), measure, heard.append)
    assert chosen.sizing == Sizing(1, 1, 2)
    assert heard == trials
    assert [trial.sizing.streams for trial in trials] == [1, 2]


def test_a_trial_by_a_clock(bundle, runtime):
    now = [0.0]

    def slow(answer: np.ndarray) -> np.ndarray:
        now[0] += 0.5
        return answer

    runtime.behaviour = slow
    make = lambda sizing: ServedModel(bundle, "f32", runtime, sizing)  # noqa: E731
    tile = np.full(make(Sizing()).tile_shape, 0.5, np.float16)
    found = measured(make, tile, Sizing(2, 1, 0), trial_s=2.0, clock=lambda: now[0])
    # Half a second for each batch of two, four of which begin within two seconds.
    assert found == Trial(Sizing(2, 1, 0), 4.0, 0.5)
    runtime.behaviour = lambda answer: answer * np.float16(0)
    assert measured(make, tile, Sizing(), 1.0) is None


def test_a_choice_is_found_again_for_the_same_model_and_machine_only(
    bundle, make_bundle, tmp_path: Path
):
    chosen = Trial(Sizing(1, 2, 4), 8.0, 0.2)
    tunings = Tunings(tmp_path / "new" / "folder", "a machine")
    assert tunings.get(bundle, "f32") is None
    file = tunings.put(bundle, "f32", chosen, [chosen])
    assert list(tunings.folder.iterdir()) == [file]
    assert tunings.get(bundle, "f32") == chosen.sizing
    assert tunings.get(bundle, "bf16") is None
    assert Tunings(tunings.folder, "another").get(bundle, "f32") is None
    other = open_server_half(make_bundle(datatype="FP32"))
    assert tunings.get(other, "f32") is None
    written = json.loads(file.read_text())
    assert written["trials"] == [
        {"batch_size": 1, "streams": 2, "threads": 4, "tiles_per_s": 8.0, "lone_ms": 200.0}
    ]


@pytest.mark.parametrize(
    "text", ["", "{}", '{"sizing": {"batch_size": 0, "streams": 1, "threads": 1}}', "[]"]
)
def test_a_damaged_choice_is_none(bundle, tmp_path: Path, text: str, caplog):
    tunings = Tunings(tmp_path, "a machine")
    chosen = Trial(Sizing(), 1.0, 1.0)
    tunings.put(bundle, "f32", chosen, []).write_text(text)
    assert tunings.get(bundle, "f32") is None
    assert "no readable tuning" in caplog.text


def test_a_folder_that_cannot_be_made(bundle, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputNotWritable, match="cannot be made"):
        Tunings(tmp_path / "file" / "x", "m").put(bundle, "f32", Trial(Sizing(), 1, 1), [])


def test_the_operator_comes_before_the_choice(bundle, tmp_path: Path):
    tunings = Tunings(tmp_path, "a machine")
    settings = Settings(precision="f32")
    assert sizing_of(bundle, settings, tunings) == Sizing()
    tunings.put(bundle, "f32", Trial(Sizing(1, 2, 4), 1.0, 1.0), [])
    assert sizing_of(bundle, settings, tunings) == Sizing(1, 2, 4)
    by_hand = Settings(precision="f32", threads=3)
    assert sizing_of(bundle, by_hand, tunings) == Sizing(1, 1, 3)
    # A replica has a core, not all of them.
    on_ray = Settings(precision="f32", engine="ray")
    assert sizing_of(bundle, on_ray, tunings) == Sizing()


def test_a_real_network_is_tuned(bundle):
    found = tune_bundle(bundle, "f32", cores=2, trial_s=0.02)
    assert found is not None
    chosen, trials = found
    assert {trial.sizing.streams for trial in trials} == {1, 2}
    assert chosen in trials
    assert all(trial.tiles_per_s > 0 and trial.lone_s > 0 for trial in trials)


def test_the_command_keeps_a_choice_and_ends(make_bundle, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(tuning, "usable_cores", lambda: 1)
    monkeypatch.setattr(tuning, "TRIAL_S", 0.02)
    serve([make_bundle()], tune=True, tuning=tmp_path, precision="f32")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("tiny 1.2.0: batch size 1, streams 1, threads 1: ")
    assert lines[-1].startswith("tiny 1.2.0: kept in ")
    assert len(list(tmp_path.iterdir())) == 1
    broken = make_bundle(name="broken", datatype="FP32", factor=0.5)
    with pytest.raises(InvalidInput, match=r"broken 1\.2\.0: fails its self-test"):
        serve([broken], tune=True, tuning=tmp_path, precision="f32")
