"""Families compared on one layer, with programs of this interpreter in the place of real ones."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import phantoms
import pytest

from veilseg.bench import estimate, families
from veilseg.bench.contenders import NotRun
from veilseg.bench.families import PLAIN, SLOTS, Setup, layer_of, measure
from veilseg.bench.operations import Convolution, Operations
from veilseg.bench.plane import plain_convolution
from veilseg.bench.servers import PEERS
from veilseg.bench.worker import Worker, worker
from veilseg.bundle import ServerBundle, open_server_half

SMALL = Convolution(3, 2, (3, 3, 3), (6, 5, 4), (6, 5, 4))
# Answers what it is told, so that a test decides what a family gets wrong.
PROGRAM = """
import sys, json, numpy as np
sys.path.insert(0, PEERS)
from layer import options, read, take_turns, tell
told = options()
image, weight = read(told)
def turn():
    np.save(told.answer, np.load(told.layer + ".answer.npy"))
    seconds = {"convolve": 2.0, "rectify": 0.5, "encrypt": 1.0, "decrypt": 0.1}
    return {"phases": {n: {"seconds": s, "bytes": 10, "rounds": 1} for n, s in seconds.items()}}
tell({"parameters": {"planes": len(image)}, "libraries": {}})
take_turns(turn)
"""


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServerBundle:
    network = Operations((SMALL, SMALL), 1, SMALL.outputs)
    monkeypatch.setattr(families, "operations", lambda _: network)
    monkeypatch.setattr("veilseg.bench.rounds.CALM_S", 0.0)
    return open_server_half(phantoms.make_bundle(tmp_path / "bundle", "plain"))


def family(tmp_path: Path, off: float = 0.0):
    """A family whose answers are off by so much."""

    @contextmanager
    def start(setup: Setup) -> Iterator[Sequence[Worker]]:
        options = setup.options()
        np.save(f"{options[1]}.answer.npy", setup.layer.expected() + off)
        program = tmp_path / "program.py"
        program.write_text(f"PEERS = {str(PEERS)!r}\n{PROGRAM}")
        with worker(Path(sys.executable), program, options) as one:
            yield [one]

    return start


def test_plain_and_families_are_compared_with_the_same_answer(tmp_path, bundle):
    those = {"CrypTen": family(tmp_path), "TenSEAL": family(tmp_path, off=0.25)}
    found = measure(bundle, 1, 0.0, tmp_path, lambda *_: None, those)
    assert found["plain"]["largest_error"] < 1e-5
    right, wrong = found["families"]
    assert right["largest_error"] < 1e-12
    assert wrong["largest_error"] == pytest.approx(0.25)
    assert found["n_rounds"] == len(right["times_plain"]["each"]) == 3
    seconds = right["phases"]["convolve"]
    assert (seconds["seconds"], seconds["spread_s"]) == (2.0, [2.0, 2.0])
    share = found["network"]["multiply_adds"] / found["layer"]["multiply_adds"]
    expected = pytest.approx(2.0 * share, rel=1e-3)
    assert right["estimate"]["seconds"]["convolutions"] == expected


def test_a_family_that_cannot_take_part_says_why(tmp_path, bundle):
    @contextmanager
    def broken(setup: Setup) -> Iterator[Sequence[Worker]]:
        program = tmp_path / "broken.py"
        program.write_text("raise SystemExit('no such library')")
        with worker(Path(sys.executable), program, []) as one:
            yield [one]

    those = {"CrypTen": broken, "TenSEAL": family(tmp_path)}
    found = measure(bundle, 1, 0.0, tmp_path, lambda *_: None, those)
    rows = {row["family"]: row["status"] for row in found["families"]}
    assert rows == {
        "CrypTen": "not run: broken: it ended with 1: no such library",
        "TenSEAL": "run",
    }
    reason = "CrypTen not run: no environment crypten: make bench-families; TenSEAL not run"
    with pytest.raises(NotRun, match=reason):
        measure(bundle, 1, 0.0, tmp_path / "nowhere", lambda *_: None)


def test_the_layer_is_a_plane_of_the_network_as_often_as_fills_a_ciphertext():
    layer = layer_of(replace(SMALL, grid=(20, 28, 24), out_grid=(20, 28, 24)))
    assert layer.image.shape == (SLOTS // 560, 3, 20, 28)
    assert layer.convolution.multiply_adds == layer.weight.size * layer.image[:, 0].size
    assert layer.describe()["outputs"] == layer.expected().size
    # One voxel by hand: at the corner five neighbours are outside.
    some = layer_of(SMALL)
    by_hand = (some.image[0, :, :2, :2] * some.weight[1, :, 1:, 1:]).sum()
    assert some.expected()[0, 1, 0, 0] == pytest.approx(by_hand)
    _, answer = plain_convolution(some.image, some.weight, 1)()
    np.testing.assert_allclose(answer, some.expected(), atol=1e-5)


def test_an_estimate_of_the_layer_itself_is_what_was_measured():
    layer = layer_of(SMALL).convolution
    network = Operations((layer,), 1, layer.outputs)
    phases = {
        name: {"seconds": seconds, "bytes": 100.0, "rounds": 4}
        for name, seconds in {"convolve": 3, "rectify": 5, "encrypt": 7, "decrypt": 9}.items()
    }
    found = estimate.crypten(phases, layer, network)
    assert found["seconds"] == {"convolutions": 3, "rectifiers": 5}
    assert found["bytes"] == {"convolutions": 100, "rectifiers": 100}
    assert found["rounds"] == 8
    found = estimate.tenseal(phases, layer, network)
    assert found["seconds"] == {"encryption": 7, "convolutions": 3, "decryption": 9}
    assert found["bytes"] == {"to the server": 100, "to the client": 100}
    twice = estimate.tenseal(phases, layer, Operations((layer, layer), 0, 0))
    assert twice["seconds"]["encryption"] == 14
    assert twice["rounds"] == 2


def test_programs_are_there_and_end_when_nobody_asks(tmp_path):
    for name in ("crypten_layer.py", "tenseal_layer.py", "crypten.txt", "tenseal.txt"):
        assert (PEERS / name).is_file()
    assert PLAIN not in families.FAMILIES
    setup = Setup(layer_of(SMALL), 1, tmp_path, tmp_path)
    with family(tmp_path)(setup) as (one,):
        one.answer(60)
        one.ask()
        assert one.answer(60)["phases"]
        process = one._process
        with pytest.raises(NotRun, match="program: no answer"):
            one.answer(0.1)
    assert process.returncode is not None
    shutil.rmtree(tmp_path)
