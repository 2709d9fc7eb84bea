"""docs/families.md, from results of the shape that ``veilseg bench families`` writes."""

from pathlib import Path

import pytest
from evidence import families, jobs
from evidence.places import ROOT, Places
from evidence.speed import NOT_YET
from tuning.networks import multiply_adds_per_voxel

from veilseg.bench.families import layer_of
from veilseg.bench.operations import Convolution, operations
from veilseg.bench.record import record, write
from veilseg.bench.rounds import ratio
from veilseg.bundle import open_client_half, open_server_half


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "results").mkdir()
    return Places(tmp_path, tmp_path, tmp_path)


def result() -> dict:
    layer = layer_of(Convolution(4, 2, (3, 3, 3), (20, 28, 24), (20, 28, 24)))
    phase = {"seconds": 0.25, "bytes": 3_000_000.0, "rounds": 4.0, "spread_s": [0.2, 0.3]}
    run = {
        "family": "CrypTen",
        "status": "run",
        "parameters": {"parties": 2, "fraction_bits": 16},
        "libraries": {"crypten": "0.4.1"},
        "phases": {"share": phase, "convolve": phase},
        "largest_error": 0.000483,
        "times_plain": ratio([1.0, 2.0, 3.0], [2.0, 4.5, 6.0]),
        "estimate": {
            "seconds": {"convolutions": 15.0, "rectifiers": 35.0},
            "bytes": {"convolutions": 2.5e8, "rectifiers": 4e9},
            "rounds": 536,
        },
    }
    missing = {"family": "TenSEAL", "status": "not run: no environment tenseal"}
    network = {
        "multiply_adds": 6_453_780_480,
        "convolutions": 17,
        "rectifiers": 13,
        "rectified": 6_720_000,
    }
    return {
        **record("families", 1, {}),
        "model": "hippocampus-mixup",
        "tile": [1, 1, 40, 56, 48],
        "layer": layer.describe(),
        "network": network,
        "n_rounds": 3,
        "plain": {"phases": {"convolve": {**phase, "seconds": 0.001}}, "largest_error": 1e-6},
        "families": [run, missing],
    }


def test_blocks_say_what_is_not_measured(places: Places):
    assert families.layer(places) == families.network(places) == NOT_YET


def test_blocks_of_what_is(places: Places):
    write(places.results / f"{families.RESULT}.json", result())
    shown = families.layer(places)
    assert "| in the clear | convolve | 0.001 (0.2 to 0.3) | 0 | 1 | 1.0e-06 |" in shown
    assert "|  | convolve | 0.25 (0.2 to 0.3) | 3 | 2.00 (2.00 to 2.25) | 4.8e-04 |" in shown
    assert "| TenSEAL | not run: no environment tenseal |  |  |  |  |" in shown
    assert "- CrypTen: parties 2, fraction bits 16; crypten 0.4.1" in shown
    assert "4 channels to 2 by 3×3 on 3 planes of 20×28, 0.1 million multiply-adds" in shown
    shown = families.network(places)
    assert (
        "| CrypTen | 50 | convolutions 15, rectifiers 35 | "
        "4.25e+03 | convolutions 250, rectifiers 4e+03 | 536 |" in shown
    )
    assert "6.45 billion multiply-adds in 17 convolutions" in shown
    assert "TenSEAL" not in shown


@pytest.mark.parametrize("name", jobs.SHIPPED)
def test_operations_of_shipped_networks_are_those_that_torch_counts(name):
    bundle = ROOT / "models" / name
    if not bundle.is_dir():
        pytest.skip("not shipped yet")
    manifest = open_client_half(bundle).manifest
    if manifest.scheme == "encoding":
        pytest.skip("another network")
    tile, classes = manifest.tile_shape, len(manifest.labels)
    each = multiply_adds_per_voxel("fine-48", len(tile), len(manifest.channels), classes)
    voxels = 1
    for side in tile:
        voxels *= side
    counted = operations(open_server_half(bundle).model_file).multiply_adds
    assert counted == pytest.approx(each * voxels, rel=1e-4)
