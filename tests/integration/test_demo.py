"""The demo as a user runs it: a real server process on a real brain, without torch."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = [sys.executable, "-m", "veilseg.cli.main", "demo"]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "demo-out"
    done = subprocess.run(
        [*DEMO, "--out", folder], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def figures(out):
    return json.loads((out / "report.json").read_text())


def test_private_is_nearly_as_good_as_plain(figures):
    assert figures["dice_plain"] >= 0.75
    assert figures["dice_private"] >= figures["dice_plain"] - 0.05


def test_encoded_is_nearly_as_good_as_plain(figures):
    assert figures["dice_encoded"] >= figures["dice_plain"] - 0.05


def test_separation_is_measured_against_what_knows_nothing(figures):
    # The control: reading masks off the answer works better than not looking at all.
    assert figures["answer_separation_dice"] > figures["reference_alone_dice"]
    assert figures["answer_separation_dice"] < figures["dice_private"]


def test_like_tokens_draw_more_than_what_knows_nothing(figures):
    assert figures["reference_alone_dice"] < figures["alike_tokens_dice"] < figures["dice_encoded"]


def test_bytes_are_those_of_the_tiles(figures):
    # 2 bytes a voxel out; one map per class, 2 bytes each, back.
    assert figures["bytes_received"] > 4 * figures["bytes_sent"] > 0


def test_encodings_are_smaller_than_images_and_maps(figures):
    assert figures["bytes_sent_encoded"] < figures["bytes_sent_plain"]
    assert figures["bytes_received_encoded"] < figures["bytes_received_plain"]


def test_page_is_self_contained(out):
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert 'src="http' not in page
    assert "not encryption" in page


def test_second_run_replaces_its_own_report_only(out, tmp_path):
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.txt").write_text("precious")
    done = subprocess.run(
        [*DEMO, "--out", other], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "thesis.txt" in done.stderr
    assert (other / "thesis.txt").read_text() == "precious"


def test_without_bundles_one_line_says_so(tmp_path):
    done = subprocess.run(
        [*DEMO, "--out", tmp_path / "x"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert done.stderr.strip().splitlines()[-1].startswith("veilseg: models")
    assert not (tmp_path / "x").exists()


def children(process: int) -> list[int]:
    """Processes that a process has started (Linux)."""
    return [int(p) for p in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for processes in /proc")
def test_interrupted_demo_leaves_no_server_and_no_files(tmp_path):
    command = [*DEMO, "--out", tmp_path / "demo-out"]
    demo = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (servers := children(demo.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert servers
    demo.send_signal(signal.SIGINT)
    _, errors = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert errors.strip().splitlines()[-1] == "veilseg: interrupted"
    assert not any(Path(f"/proc/{server}").exists() for server in servers)
    assert list(tmp_path.iterdir()) == []
