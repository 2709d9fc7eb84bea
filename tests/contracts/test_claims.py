"""``make claims``: nothing is done twice, nothing is lost, two never work at once.

Commands are replaced by ones that write what they would write, so that no test trains.
"""

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import claims
import phantoms
import pytest
from evidence import background, jobs, runs
from evidence.places import Places, write
from records import leave_run
from running import alive, until

from veilseg.bench.alone import only_one, running
from veilseg.bundle import open_client_half
from veilseg.datasets.layout import Dataset, with_codes
from veilseg.errors import Busy

SCRIPTS = Path(claims.__file__).parent
DATA = jobs.Data("phantom", "phantoms", "Phantom", 3, "CC0")
PLAIN, MIXUP, ALGEBRAIC = jobs.triple(DATA)
EVALUATION = jobs.Evaluation(MIXUP.name, MIXUP.name)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    phantoms.make_dataset(tmp_path / "data" / DATA.folder, ("p", "q", "r"))
    return Places(tmp_path, tmp_path / "data", tmp_path / "work")


@pytest.fixture
def commands(places: Places, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What was run; each training makes a bundle of phantoms."""
    given: list[list[str]] = []

    def run(*command: object, **options: object) -> str:
        words = list(map(str, command))[3:]
        given.append(words)
        if words[0] == "train":
            out = Path(words[words.index("--out") + 1])
            record = leave_run(out, words, places.data / DATA.folder)
            scheme, told = record["scheme"], record | {"init": {"bundle_id": record["init"]}}
            phantoms.make_bundle(out, scheme, name=out.name, provenance=told)
            (out / "README.md").write_text("card")
        else:
            bundle = Path(words[1])
            manifest = open_client_half(bundle).manifest
            found = {"bundle_id": manifest.bundle_id, "scheme": manifest.scheme}
            write(Path(words[-1]), {**found, "provenance": manifest.provenance, "mean_dice": 0.5})
        return ""

    monkeypatch.setattr(runs, "run", run)
    return given


@pytest.mark.parametrize("training", [PLAIN, MIXUP, ALGEBRAIC], ids=lambda job: job.name)
def test_what_is_trained_is_not_trained_again(places, commands, training):
    assert runs.progress(training, places) == runs.Progress()
    runs.train(training, places)
    assert runs.progress(training, places) == runs.Progress(3, finished=True)
    runs.train(training, places)
    (words,) = commands
    assert "--resume" in words
    assert ("algebraic" in words) == (training is ALGEBRAIC)


@pytest.mark.parametrize("change", [{"steps": 4}, {"seed": 1}, {"fold": "1/3"}])
def test_outdated_run_is_put_aside(places, commands, change):
    runs.train(MIXUP, places)
    first = open_client_half(places.bundle(MIXUP.name)).manifest.bundle_id
    changed = jobs.Training(**{**vars(MIXUP), **change})
    assert runs.progress(changed, places).outdated
    runs.train(changed, places)
    assert runs.progress(changed, places).finished
    aside = places.work / f"{MIXUP.name}.old"
    assert open_client_half(aside).manifest.bundle_id == first


@pytest.mark.parametrize(("batch", "outdated"), [(2, False), (1, True)])
def test_share_of_cut_steps_matters_where_tiles_are_large(places, commands, batch, outdated):
    runs.train(PLAIN, places)
    record = places.bundle(PLAIN.name) / "weights" / "run.json"
    fields = json.loads(record.read_text())
    fields["recipe"]["cropped_share"] /= 2
    record.write_text(json.dumps(fields | {"batch": batch}))
    assert runs.progress(PLAIN, places).outdated is outdated


def test_run_on_other_data_is_outdated(places, commands):
    runs.train(PLAIN, places)
    runs.content_hash.cache_clear()
    phantoms.make_dataset(places.data / "other", ("p", "q", "s", "t"))
    (places.data / DATA.folder).rename(places.data / "first")
    (places.data / "other").rename(places.data / DATA.folder)
    assert runs.progress(PLAIN, places).outdated
    runs.content_hash.cache_clear()


def test_half_a_bundle_is_gone_on_with(places, commands):
    runs.train(PLAIN, places)
    (places.bundle(PLAIN.name) / "server" / "manifest.json").unlink()
    assert not runs.progress(PLAIN, places).finished
    assert not runs.progress(PLAIN, places).outdated


def test_evaluation_is_of_the_bundle_that_is_there(places, commands):
    runs.train(MIXUP, places)
    runs.evaluate(EVALUATION, MIXUP, places, again=False)
    found = runs.evaluated(EVALUATION, MIXUP, places)
    assert (found["steps"], found["seed"], found["mean_dice"]) == (3, 0, 0.5)
    assert len(found["commit"].removesuffix(" (modified)")) == 40
    runs.evaluate(EVALUATION, MIXUP, places, again=False)
    assert len(commands) == 2
    runs.evaluate(EVALUATION, MIXUP, places, again=True)
    assert len(commands) == 3
    file = places.evaluation(EVALUATION.name)
    file.write_text(json.dumps(found | {"bundle_id": "another"}))
    assert runs.evaluated(EVALUATION, MIXUP, places) is None


def test_time_is_told_of_a_training_in_one_piece_alone(places, commands, monkeypatch):
    runs.train(MIXUP, places)
    runs.evaluate(EVALUATION, MIXUP, places, again=False)
    told = runs.evaluated(EVALUATION, MIXUP, places)["training"]
    assert told.keys() == {"minutes", "cores"}
    monkeypatch.setattr(runs, "progress", lambda *_: runs.Progress(steps=2))
    runs.train(PLAIN, places)
    assert runs.duration(PLAIN, places) == {}


@pytest.mark.parametrize("where", ["phantom-mixup", "parts/phantom-mixup"])
def test_what_is_published_needs_no_work_folder(places, commands, monkeypatch, where):
    monkeypatch.setattr(claims, "EVALUATIONS", (EVALUATION,))
    runs.train(MIXUP, places)
    runs.evaluate(EVALUATION, MIXUP, places, again=False)
    places.store(where, runs.evaluated(EVALUATION, MIXUP, places))
    shutil.rmtree(places.work)
    assert runs.evaluated(EVALUATION, MIXUP, places)["mean_dice"] == 0.5
    claims._job(MIXUP, places, again=False)
    assert len(commands) == 2
    changed = replace(MIXUP, steps=4)
    assert runs.evaluated(EVALUATION, changed, places) is None
    claims._job(changed, places, again=False)
    assert [words[0] for words in commands[2:]] == ["train", "evaluate"]


def test_shipped_bundle_is_evaluated_where_it_lies(places, commands):
    runs.train(MIXUP, places)
    provenance = open_client_half(places.bundle(MIXUP.name)).manifest.provenance
    shipped = places.models / MIXUP.name
    phantoms.make_bundle(shipped, "mixup", provenance=provenance)
    (shipped / "README.md").write_text("card")
    shutil.rmtree(places.work)
    assert runs.trained(MIXUP, places) == places.models / MIXUP.name
    runs.train(MIXUP, places)
    assert len(commands) == 1
    assert runs.trained(replace(MIXUP, seed=1), places) is None


def test_a_training_goes_on_from_another(places, commands, monkeypatch):
    data = replace(DATA, steps=5, raw_steps=2)
    plain, mixup, _ = jobs.triple(data)
    assert (plain.steps, mixup.steps, mixup.init) == (2, 3, plain)
    runs.train(mixup, places)
    first, second = commands
    assert "--init" not in first
    assert second[second.index("--init") + 1] == str(places.bundle(plain.name))
    assert runs.trained(mixup, places) == places.bundle(mixup.name)
    # What it went on from counts: trained anew, it is another run.
    shutil.rmtree(places.bundle(plain.name))
    phantoms.make_bundle(places.bundle(plain.name), "plain", name=plain.name, raw_scale=7)
    assert runs.progress(mixup, places).outdated


def test_what_others_go_on_from_is_trained_anew_where_its_bundle_is_gone(
    places, commands, monkeypatch
):
    data = replace(DATA, steps=5, raw_steps=2)
    pair = jobs.triple(data)[:2]
    table = {job.name: jobs.Evaluation(job.name, job.name) for job in pair}
    monkeypatch.setattr(claims, "TRAININGS", pair)
    monkeypatch.setattr(claims, "EVALUATIONS", tuple(table.values()))
    plain, _ = pair
    claims._job(plain, places, again=False)
    places.store(plain.name, runs.evaluated(table[plain.name], plain, places))
    shutil.rmtree(places.work)
    assert not claims._is_published(plain, places)
    for job in pair:
        claims._job(job, places, again=False)
        places.store(job.name, runs.evaluated(table[job.name], job, places))
    shutil.rmtree(places.work)
    assert all(claims._is_published(job, places) for job in pair)


@pytest.mark.parametrize("kind", ["synthetic", "labelled"])
def test_references_are_what_the_bundle_has(places, commands, kind):
    folder = places.bundle(MIXUP.name)
    phantoms.make_bundle(folder, "mixup", name=MIXUP.name, references=[kind])
    runs.evaluate(EVALUATION, MIXUP, places, again=False)
    (words,) = commands
    assert ("--references" in words) == (kind == "labelled")
    assert words[words.index("--split") + 1] == "test"


def found_of(training: jobs.Training, places: Places) -> dict[str, str]:
    """What decides whether an evaluation is of the bundle that was trained."""
    return {"bundle_id": open_client_half(places.bundle(training.name)).manifest.bundle_id}


def test_bundle_is_shipped_without_its_weights(places, commands):
    runs.train(PLAIN, places)
    found = found_of(PLAIN, places)
    runs.ship(PLAIN.name, found, places)
    assert runs.is_shipped(PLAIN.name, found, places)
    shipped = places.models / PLAIN.name
    assert {path.name for path in shipped.iterdir()} == {"client", "server", "README.md"}
    assert [path.name for path in places.models.iterdir()] == [PLAIN.name]


def test_failed_shipping_leaves_the_old_bundle(places, commands, monkeypatch):
    phantoms.make_bundle(places.models / PLAIN.name, "plain", name=PLAIN.name, raw_scale=7)
    old = open_client_half(places.models / PLAIN.name).manifest.bundle_id
    runs.train(PLAIN, places)
    (places.bundle(PLAIN.name) / "README.md").unlink()
    with pytest.raises(OSError, match="README"):
        runs.ship(PLAIN.name, found_of(PLAIN, places), places)
    assert open_client_half(places.models / PLAIN.name).manifest.bundle_id == old
    (places.bundle(PLAIN.name) / "README.md").write_text("card")
    runs.ship(PLAIN.name, found_of(PLAIN, places), places)
    assert runs.is_shipped(PLAIN.name, found_of(PLAIN, places), places)
    assert [path.name for path in places.models.iterdir()] == [PLAIN.name]


def test_table_tells_how_far_everything_is(places, commands, monkeypatch):
    monkeypatch.setattr(claims, "EVALUATIONS", (EVALUATION,))
    words = ["--scheme", "plain", *PLAIN.options()]
    leave_run(places.bundle(PLAIN.name), words, places.data / DATA.folder)
    runs.train(MIXUP, places)
    runs.evaluate(EVALUATION, MIXUP, places, again=False)
    lines = claims.table((PLAIN, MIXUP, ALGEBRAIC), places).splitlines()[1:4]
    assert [line.split("  ", 1)[1].strip() for line in lines] == [
        "training, 0 of 3 steps kept",
        "published                    0.500",
        "waiting",
    ]


def test_one_failure_does_not_keep_the_others_from_being_done(
    places, commands, monkeypatch, capsys
):
    monkeypatch.setattr(claims, "EVALUATIONS", ())
    monkeypatch.setattr(claims, "USAGE", {})
    monkeypatch.setattr(claims, "publish", lambda *given: None)
    run = runs.run

    def failing(*command: object, **options: object) -> str:
        if "plain" in command:
            raise subprocess.CalledProcessError(3, list(map(str, command)))
        return run(*command, **options)

    monkeypatch.setattr(runs, "run", failing)
    assert claims.measure((PLAIN, MIXUP), [PLAIN.name, MIXUP.name], places, again=False) == 1
    assert "phantom-plain: its command ended with 3" in capsys.readouterr().err
    assert runs.progress(MIXUP, places).finished


def test_pair_is_shipped_when_both_are_evaluated(places, commands, monkeypatch):
    pair = jobs.triple(DATA, ship=True)[:2]
    table = {job.name: jobs.Evaluation(job.name, job.name) for job in pair}
    for name, value in {
        "TRAININGS": pair,
        "BY_NAME": table,
        "EVALUATIONS": tuple(table.values()),
        "PUBLISHED": (),
        "summarise": lambda *given: None,
        "encodings": lambda *given: None,
    }.items():
        monkeypatch.setattr(claims, name, value)
    for job in pair:
        runs.train(job, places)
    runs.evaluate(table[pair[0].name], pair[0], places, again=False)
    claims.publish(pair, places)
    assert not places.models.exists()
    assert places.load(pair[0].name) is None
    runs.evaluate(table[pair[1].name], pair[1], places, again=False)
    claims.publish(pair, places)
    for job in pair:
        shipped = open_client_half(places.models / job.name).manifest
        assert places.load(job.name)["bundle_id"] == shipped.bundle_id


def test_codes_are_of_labels_of_shipped_bundles():
    files = {file.stem: file for file in runs.CODES.glob("*.json")}
    shipped = {job.data.name for job in jobs.TRAININGS if job.ship}
    assert files.keys() == shipped
    for name, file in files.items():
        labels = open_client_half(shipped_bundle(name)).manifest.labels
        known = Dataset(Path(name), name, labels, ("MRI",), (), 3)
        assert any(label.code for label in with_codes(known, file).labels)


def shipped_bundle(name: str) -> Path:
    return SCRIPTS.parent / "models" / f"{name}-plain"


CHILD = """
import os, sys, time
with open(sys.argv[1], "w") as file:
    file.write(str(os.getpid()))
time.sleep(60)
"""
HOLDER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from evidence.background import LOCK, run
from veilseg.bench.alone import only_one
with only_one(Path(sys.argv[2]) / LOCK):
    print("held", flush=True)
    run(sys.executable, "-c", sys.argv[3], sys.argv[4])
"""


def test_two_never_work_at_once_and_a_kill_leaves_nothing_behind(tmp_path):
    child_file, lock = tmp_path / "child", tmp_path / background.LOCK
    command = [sys.executable, "-c", HOLDER, SCRIPTS, tmp_path, CHILD, child_file]
    holder = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout.readline() == "held\n"
        assert running(lock) == str(holder.pid)
        with pytest.raises(Busy, match=str(holder.pid)), only_one(lock):
            pass
        child = int(until(lambda: child_file.is_file() and child_file.read_text()))
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        # Nothing goes on without whoever started it: the next start is alone.
        until(lambda: not alive(child))
    assert running(lock) is None
    with only_one(lock):
        assert lock.read_text().strip()


def test_a_service_runs_while_it_is_needed():
    code = "import os, time; print('on', os.getpid(), flush=True); time.sleep(60)"
    with background.serving(sys.executable, "-c", code, ready="on ") as process:
        assert alive(int(process))
    assert not alive(int(process))
    ended = background.serving(sys.executable, "-c", "raise SystemExit(3)", ready="on ")
    with pytest.raises(subprocess.CalledProcessError), ended:
        pass


def test_start_is_detached_and_logged(tmp_path):
    code = "import os; print(os.getsid(0))"
    with background.start(tmp_path, [sys.executable, "-c", code]) as process:
        pass
    assert background.last_line(tmp_path) == str(process.pid)


def test_unknown_job_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["claims.py", "--only", "hippopotamus"])
    with pytest.raises(SystemExit) as ended:
        claims.main()
    assert ended.value.code == 2
    assert "hippopotamus: no such job" in capsys.readouterr().err
