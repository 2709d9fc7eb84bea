"""``veilseg bench evidence`` as it is typed, on phantoms: a table, killed and gone on with."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import made_up
import phantoms
import pytest
from running import alive, descendants, until
from typer.testing import CliRunner

from veilseg.audit import workshop
from veilseg.bench.evidence import cells, children, every, trained
from veilseg.cli.main import app, exit_code
from veilseg.errors import VeilsegError

# Of twenty people the last four are evaluated and audited.
PEOPLE = tuple(f"person{number:02d}" for number in range(20))
PLAIN, MIXUP = "hippocampus-plain-0", "hippocampus-mixup-0"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    phantoms.make_dataset(folder / "hippocampus", PEOPLE, 2)
    return folder


@pytest.fixture
def options(data, tmp_path) -> list[object]:
    """Of every run: where things are, and no published bundle."""
    out, work = tmp_path / "evidence.json", tmp_path / "work"
    return ["--json", out, "--data", data, "--work", work, "--bundles", tmp_path / "none"]


@pytest.fixture
def evidence(veilseg, options):
    return lambda *more: veilseg("bench", "evidence", *options, *more)


@pytest.fixture
def here(monkeypatch):
    """Commands of cells run in this process, with attackers of few steps; gives what was run."""
    monkeypatch.setattr(workshop, "QUICK", replace(workshop.QUICK, steps=6, proxies=4))
    given: list[list[str]] = []

    def run(*arguments, note):
        words = list(map(str, arguments))
        given.append(words)
        done = CliRunner().invoke(app, words)
        if isinstance(done.exception, VeilsegError):
            raise done.exception
        assert done.exit_code == 0, done.output

    for module in (children, trained):
        monkeypatch.setattr(module, "veilseg", run)
    return given


def stored(options) -> dict:
    return json.loads(Path(str(options[1])).read_text())


def ready(name: str, data: Path, tmp_path: Path, steps: int) -> Path:
    """A bundle of a cell's very run, as if it had been trained for something else before."""
    cell = next(one for one in cells.table(steps) if one.name == name)
    wanted = trained.Places(data, tmp_path / "work").defined(cell.run)
    told = {field: wanted[field] for field in ("steps", "seed", "data_sha256", "recipe")}
    told |= {"batch": 16, "fold": None, "variant": None, "init": None}
    bundles = tmp_path / "none"
    bundles.mkdir(exist_ok=True)
    return phantoms.make_bundle(
        bundles / name, cell.scheme, name=name, spatial_dims=2, provenance=told
    )


@pytest.mark.timeout(600)
def test_bundles_that_are_there_become_a_table(evidence, here, options, data, tmp_path):
    ids = {name: phantoms.bundle_id(ready(name, data, tmp_path, 40)) for name in (PLAIN, MIXUP)}
    for name, effort in ((PLAIN, "none"), (MIXUP, "quick")):
        ended = evidence("--only", name, "--steps", 40, "--audit", effort)
        assert ended.code == 0, ended.err
    done = [words[0] for words in here]
    assert done == ["evaluate", "bench", "evaluate", "audit", "bench"], "nothing is trained"
    document = stored(options)
    assert {name: cell["bundle_id"] for name, cell in document["cells"].items()} == ids
    told(MIXUP, document["cells"][MIXUP])
    assert document["cells"][PLAIN]["accuracy"]["dice"]["value"] > 0.9
    assert document["cells"][PLAIN]["cost"]["ratio"] is None
    assert "mixup" in document["comparisons"]["hippocampus"]["margins"]
    again = evidence("--only", MIXUP, "--steps", 40, "--audit", "quick")
    assert (again.code, len(here)) == (0, len(done)), "nothing is done twice"
    assert again.out.count("measured") == 1
    other = evidence("--only", PLAIN, "--steps", 41, "--audit", "none")
    assert other.code == 2
    assert f"{PLAIN} was measured with steps 40, not 41" in other.errors[-1]


def told(name: str, cell: dict) -> None:
    """A cell has everything that was to be measured."""
    assert (cell["n_patients"], len(cell["cases"])) == (4, 4)
    assert set(cell["accuracy"]) == {"dice", "hd95", "nsd"}
    for channel, leak in cell["leakage"].items():
        assert leak["attacks"], (name, channel)
        for one in leak["attacks"]:
            assert one["status"] != "run" or one["positive_control"]["passed"]
    cost = cell["cost"]
    assert cost["multiply_adds"]["server"] > 0
    assert min(*cost["bytes"].values(), *cost["seconds"].values()) > 0
    assert cost["ratio"]["median"] > 0, "beside plain"


@pytest.mark.long
@pytest.mark.timeout(900)
def test_from_data_to_a_table(evidence, here, options):
    asked = ("--only", "hippocampus-encoding-0", "--steps", 40, "--audit", "quick")
    ended = evidence(*asked)
    assert ended.code == 0, ended.err
    done = [words[0] for words in here]
    assert done == ["train", "evaluate", "audit", "train", "bench"], "plain is timed beside"
    assert all("--resume" in words for words in here if words[0] == "train")
    ((name, cell),) = stored(options)["cells"].items()
    told(name, cell)
    assert cell["cost"]["multiply_adds"]["site"] > 0
    tried = {one["attack"] for leak in cell["leakage"].values() for one in leak["attacks"]}
    assert tried == set(cells.ON_ENCODINGS)


@pytest.fixture
def started(options):
    """Start the command as a process of its own, in a session of its own."""
    processes = []

    def start(*more):
        command = [sys.executable, "-m", "veilseg.cli.main", "bench", "evidence", *options, *more]
        process = subprocess.Popen(
            list(map(str, command)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform != "linux", reason="what the kernel ends is asked of Linux")
def test_a_cell_killed_at_any_point_goes_on(started, options, data, tmp_path):
    asked = ("--only", PLAIN, "--steps", 60, "--audit", "none")
    work = tmp_path / "work" / "evidence"
    killed(started(*asked), lambda: list(work.glob("trained/*/weights/run.json")))
    ready(PLAIN, data, tmp_path, 60)
    (kept,) = killed(started(*asked), lambda: list(work.glob("cells/*/evaluation.json")))
    assert not Path(str(options[1])).exists()
    moment = kept.stat().st_mtime_ns
    process = started(*asked)
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert kept.stat().st_mtime_ns == moment, "what was done is not redone"
    cell = stored(options)["cells"][PLAIN]
    assert cell["accuracy"]["dice"]["value"] > 0.9
    assert [leak["by_default"] for leak in cell["leakage"].values()] == [None] * 4


def killed(process: subprocess.Popen, reached: Callable[[], list[Path]]) -> list[Path]:
    """Kill a process where it is at a point; gives what it had written by then."""
    found = until(reached, process)
    children = descendants(process.pid)
    process.kill()
    process.communicate()
    # Nothing goes on alone.
    until(lambda: not any(map(alive, children)))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
def test_ctrl_c_ends_everything_in_one_line(started, options, tmp_path):
    process = started("--only", PLAIN, "--steps", 100_000, "--audit", "none")
    trainings = tmp_path / "work" / "evidence" / "trained"
    until(lambda: list(trainings.glob("*/weights/run.json")), process)
    children = descendants(process.pid)
    assert children
    # Another that comes meanwhile is sent away.
    second = started("--only", PLAIN, "--steps", 100_000, "--audit", "none")
    _, err = second.communicate()
    assert second.returncode == 3
    assert f"process {process.pid} works there: nothing done" in err
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "veilseg: interrupted"
    assert "Traceback" not in err
    assert not any(map(alive, children))
    assert not Path(str(options[1])).exists()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_cell_is_repeated(evidence, here, options):
    assert evidence("--only", PLAIN, "--steps", 40, "--audit", "none").code == 0
    done = len(here)
    ended = evidence("--repeat", PLAIN)
    assert ended.code == 0, ended.err
    assert [words[0] for words in here[done:]] == ["train", "evaluate"]
    assert "within" in ended.out


@pytest.mark.parametrize(
    ("within", "code", "said"),
    [(True, 0, "within"), (False, 1, "outside"), (None, 1, "not comparable")],
)
def test_a_repetition_ends_with_what_dice_says(evidence, monkeypatch, options, within, code, said):
    cell = next(one for one in cells.table() if one.name == PLAIN)
    found = {"bench": "evidence", "cells": {PLAIN: made_up.cell(cell)}}
    Path(str(options[1])).write_text(json.dumps(found))
    dice = {"figure": "dice", "stored": 0.9, "interval": [0.8, 0.95], "fresh": 0.7}
    mask = {"figure": "mask", "stored": 0.9, "interval": [None, None], "fresh": 0.7}
    rows = [dice | {"within": within}, mask | {"within": None}]
    monkeypatch.setattr(every, "repeat", lambda *_: rows)
    ended = evidence("--repeat", PLAIN)
    assert (ended.code, ended.err) == (code, "")
    assert ended.out.splitlines() == [
        f"dice: stored 0.9000 (0.8000 to 0.9500), afresh 0.7000: {said}",
        "mask: stored 0.9000 (no interval), afresh 0.7000: not comparable",
    ]


def test_what_cannot_be_measured_ends_in_one_line(evidence, data, tmp_path, options, monkeypatch):
    def refused(code, *more):
        ended = evidence(*more)
        lines = [line for line in ended.err.splitlines() if line.startswith("veilseg: ")]
        assert (ended.code, len(lines), ended.out) == (code, 1, "")
        return lines[0].removeprefix("veilseg: ")

    assert refused(2, "--only", "liver-*") == "--only liver-*: no such cell; --list shows all"
    assert refused(2, "--audit", "kind") == "--audit kind: choose full, quick, none"
    assert refused(2, "--repeat", "x", "--list").startswith("--repeat: of one cell, without --only")
    assert refused(2, "--repeat", "x") == "--repeat x: no such cell; --list shows all"
    assert "hippocampus-plain-0 is not measured" in refused(3, "--repeat", PLAIN)
    assert f"{data / 'retina_vessels'}" in refused(3, "--only", "retina-*")
    assert "is a folder" in refused(3, "--json", tmp_path)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "openvino", None)
        line = refused(3, "--only", PLAIN)
        assert line == "veilseg bench evidence needs openvino: pip install 'veilseg[server]'"
    Path(str(options[1])).write_text("{}")
    assert "no result of veilseg bench evidence" in refused(3, "--only", PLAIN, "--list")


def test_a_cell_that_fails_says_why_and_the_others_are_done(evidence, monkeypatch, options):
    monkeypatch.setattr(cells, "COMPARATORS", ("unheard_of",))
    ended = evidence("--only", "hippocampus-unheard_of-0", "--steps", 2, "--audit", "none")
    assert ended.code == exit_code(VeilsegError()) == 1
    assert [line for line in ended.err.splitlines() if line.startswith("veilseg: ")] == [
        "veilseg: hippocampus-unheard_of-0: train: --scheme unheard_of: unknown; choose one of "
        "mixup, plain, encoding, noise, deformation, privacy_net",
        "veilseg: 1 of 1 cells failed: each has said why",
    ]


def test_list_shows_every_cell_and_trains_none(evidence, here, tmp_path):
    ended = evidence("--list", "--only", "hippocampus-*")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert len(lines) == 19
    assert all("waiting" in line for line in lines[1:])
    assert here == []
    assert not (tmp_path / "work").exists()
