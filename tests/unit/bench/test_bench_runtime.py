"""Runtimes compared on a small bundle."""

import numpy as np
import phantoms
import pytest

from veilseg.bench import runtime
from veilseg.bench.contenders import NotRun, onnx_runtime, openvino_loop, torch_eager
from veilseg.bench.runtime import Accuracy, agreement, measure
from veilseg.bundle import open_server_half


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("bundles") / "plain"
    return open_server_half(phantoms.make_bundle(folder, "plain"))


def quiet(*_: object) -> None:
    pass


def test_what_is_measured_and_what_is_not(bundle):
    def missing(*_: object):
        raise NotRun("needs a thing")

    makers = {"base": onnx_runtime, "loop": openvino_loop("f32"), "other": missing}
    evaluate = lambda contender: Accuracy([0.5, 0.75], ["a", "b"])  # noqa: E731
    name = bundle.manifest.name
    found = measure([bundle], 1, 0.0, {name: evaluate}, quiet, makers)
    assert (found["bench"], found["threads"]) == ("runtime", 1)
    assert {"processor", "cores", "load_before"} <= found["machine"].keys()
    network = found["networks"][name]
    assert network["bundle_id"] == bundle.manifest.bundle_id
    assert (network["compared_with"], network["n_rounds"]) == ("base", 3)
    rows = network["runtimes"]
    assert rows["other"] == {"status": "not run: needs a thing"}
    assert rows["base"]["speedup"]["median"] == 1.0
    assert rows["loop"]["median_s"] > 0
    assert rows["loop"]["agreement"]["same_class"] > 0.99
    assert rows["loop"]["dice"]["difference"] == 0.0
    assert rows["loop"]["dice"]["n_patients"] == 2


def test_torch_takes_part_with_networks_that_it_knows(bundle):
    # The phantom's network is none that is trained here.
    found = measure([bundle], 1, 0.0, {}, quiet, {"torch": torch_eager, "ort": onnx_runtime})
    rows = found["networks"][bundle.manifest.name]["runtimes"]
    assert rows["torch"]["status"].startswith("not run: ")
    assert "weights of other networks" in rows["torch"]["status"]


def test_nothing_that_takes_it(bundle):
    def missing(*_: object):
        raise NotRun("no")

    with pytest.raises(NotRun, match="no runtime takes it"):
        measure([bundle], 1, 0.0, {}, quiet, {"a": missing})


def test_agreement_of_maps_and_of_encodings():
    one = np.zeros((1, 2, 2, 2, 2), np.float32)
    one[0, 0] = 1
    two = one.copy()
    two[0, :, 0, 0, 0] = 0.25, 0.75
    assert agreement(one, two) == {"largest": 0.75, "mean": 0.09375, "same_class": 0.875}
    assert "same_class" not in agreement(np.zeros((1, 8)), np.ones((1, 8)))
    assert runtime.TORCH in runtime.RUNTIMES
