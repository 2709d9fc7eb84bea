import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from onnx import TensorProto, helper

from veilseg.bundle import TensorSpec, open_server_half
from veilseg.errors import InvalidInput
from veilseg.serving.errors import ModelError, ModelNotReady
from veilseg.serving.models import ServedModel
from veilseg.serving.onnx_runtime import OnnxRuntime, require_f32
from veilseg.serving.runtime import OpenVinoRuntime, Sizing, require_available

MakeBundle = Callable[..., Path]
RUNTIMES = [OpenVinoRuntime, OnnxRuntime]


def served(bundle: Path, **options) -> ServedModel:
    return ServedModel(open_server_half(bundle), **options)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("datatype", ["FP16", "FP32"])
def test_a_batch_equals_its_tiles_one_by_one(make_bundle: MakeBundle, datatype: str, runtime):
    sizing = Sizing(batch_size=2)
    bundle = make_bundle(datatype=datatype)
    model = served(bundle, precision="f32", make_runtime=runtime, sizing=sizing)
    assert (model.failure, model.precision) == (None, "f32")
    dtype = {"FP16": np.float16, "FP32": np.float32}[datatype]
    tiles = np.random.default_rng(0).random((3, *model.tile_shape)).astype(dtype)
    answers = model.run(tiles)
    assert answers.dtype == dtype
    np.testing.assert_allclose(answers, np.concatenate([1 - tiles, tiles], axis=1), atol=1e-3)
    for tile, answer in zip(tiles, answers, strict=True):
        np.testing.assert_array_equal(model.run(tile[np.newaxis])[0], answer)


def test_auto_is_what_the_cpu_computes_in(make_bundle: MakeBundle):
    capabilities = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    expected = "bf16" if "BF16" in capabilities else "f32"
    assert served(make_bundle(), precision="auto").precision == expected
    require_available("auto")
    require_available("f32")


def test_a_precision_the_cpu_lacks_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ov.Core, "get_property", lambda *_: ["FP32"])
    with pytest.raises(InvalidInput, match="does not compute in bf16"):
        require_available("bf16")


def test_onnx_runtime_computes_in_single_precision(make_bundle: MakeBundle):
    assert served(make_bundle(), precision="auto", make_runtime=OnnxRuntime).precision == "f32"
    with pytest.raises(InvalidInput, match="ONNX Runtime does not compute in bf16"):
        require_f32("bf16")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_file_has_to_keep_what_the_manifest_promises(make_bundle: MakeBundle, runtime):
    bundle = open_server_half(make_bundle())
    proxy, answer = bundle.manifest.proxy, bundle.manifest.answer
    for other in (
        TensorSpec("image", proxy.datatype, proxy.shape),
        TensorSpec(proxy.name, "FP32", proxy.shape),
        TensorSpec(proxy.name, proxy.datatype, (1, 1, 8, 6, 5)),
    ):
        with pytest.raises(InvalidInput, match="its tensors are not the manifest's"):
            runtime(bundle.model_file, other, answer, "f32")


def npz(**arrays: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"factor": 0.5}, "differs by 0.25"),
        ({"factor": -0.0}, "differs by 0.5"),
        ({"factor": float("nan")}, "not finite"),
        ({"model": b"no network"}, "could not be loaded"),
        ({"selftest": b"no arrays"}, "no array proxy"),
        ({"selftest": npz(answer=np.zeros(1))}, "no array proxy (KeyError)"),
        ({"selftest": npz(proxy=np.array([{}]))}, "no array proxy (ValueError)"),
        ({"selftest": npz(proxy=np.zeros((1, 2, 3, 4)))}, "proxy has not the shape"),
    ],
)
def test_a_model_that_fails_its_selftest_does_not_answer(
    make_bundle: MakeBundle, tile: np.ndarray, options: dict, reason: str
):
    model = served(make_bundle(**options))
    assert model.failure is not None
    assert reason in model.failure
    with pytest.raises(ModelNotReady, match=r"^model tiny is not ready$"):
        model.run(tile[np.newaxis].astype(np.float16))


def test_classes_that_change_sides_fail_even_by_little(
    make_bundle: MakeBundle, tile: np.ndarray, runtime
):
    # Everything moves by less than the tolerance, yet all winners change where it is a tie.
    tie = np.full_like(tile, 0.5)
    selftest = npz(proxy=tie, answer=np.concatenate([tie + 0.005, tie - 0.005]))
    shift = np.array([-0.005, 0.005], np.float16).reshape(1, 2, 1, 1, 1)
    runtime.behaviour = lambda answer: answer + shift
    model = served(make_bundle(selftest=selftest), make_runtime=runtime)
    assert "agrees on the class of 0.0%" in str(model.failure)


def test_what_a_network_must_not_answer(model: ServedModel, runtime, tile: np.ndarray):
    tiles = tile[np.newaxis].astype(np.float16)

    def breaks(answer: np.ndarray) -> np.ndarray:
        raise RuntimeError(f"cannot process {answer}")

    for behaviour, reason in (
        (lambda answer: answer * np.float16(np.inf), "not finite"),
        (lambda answer: answer[:, :1], "another shape or datatype"),
        (lambda answer: answer.astype(np.float32), "another shape or datatype"),
        (breaks, r"^model tiny failed \(RuntimeError\)$"),
    ):
        runtime.behaviour = behaviour
        with (
            np.errstate(invalid="ignore"),
            pytest.raises(ModelError, match=reason),
        ):
            model.run(tiles)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_an_answer_is_the_same_alone_and_in_company(make_bundle: MakeBundle, batch_size: int):
    model = served(make_bundle(), precision="f32", sizing=Sizing(batch_size))
    assert model.failure is None
    rng = np.random.default_rng(1)
    tiles = rng.random((batch_size, *model.tile_shape)).astype(np.float16)
    together = model.answers(tiles)
    for tile, answer in zip(tiles, together, strict=True):
        (alone,) = model.answers(tile[np.newaxis])
        assert alone.tobytes() == answer.tobytes()
    # In every place of the batch, whoever the others are.
    for place in range(batch_size):
        others = rng.random(tiles.shape).astype(np.float16)
        others[place] = tiles[0]
        assert model.answers(others)[place].tobytes() == together[0].tobytes()


def test_a_network_that_mixes_its_batch_is_not_ready(make_bundle: MakeBundle, runtime):
    model = served(make_bundle(), make_runtime=runtime, sizing=Sizing(2))
    assert model.failure is None
    runtime.behaviour = lambda answer: answer + np.float16(0.01) * answer[::-1]
    model = served(make_bundle(), make_runtime=runtime, sizing=Sizing(2))
    assert model.failure == "self-test: an answer depends on the others of its batch"


def test_the_first_of_a_batch_is_looked_at_as_well(make_bundle: MakeBundle, runtime):
    def leaking(answer):
        answer = answer.copy()
        answer[0] += np.float16(0.01) * answer[-1]
        return answer

    runtime.behaviour = lambda answer: leaking(answer) if answer[1:].any() else answer
    model = served(make_bundle(), make_runtime=runtime, sizing=Sizing(4))
    assert model.failure == "self-test: an answer depends on the others of its batch"


def test_a_network_of_one_tile_at_a_time(make_bundle: MakeBundle, tmp_path: Path):
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [1, 192])
    back = helper.make_tensor("back", TensorProto.INT64, [5], [1, 1, 8, 6, 4])
    nodes = [
        helper.make_node("Reshape", ["proxy", "shape"], ["flat"]),
        helper.make_node("Reshape", ["flat", "back"], ["x"]),
        helper.make_node("Concat", ["x", "x"], ["answer"], axis=1),
    ]
    half = TensorProto.FLOAT16
    graph = helper.make_graph(
        nodes,
        "fixed",
        [helper.make_tensor_value_info("proxy", half, [1, 1, 8, 6, 4])],
        [helper.make_tensor_value_info("answer", half, [1, 2, 8, 6, 4])],
        [shape, back],
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    bundle = make_bundle(model=network.SerializeToString())
    assert "differs by" in str(served(bundle, precision="f32").failure)
    failure = str(served(bundle, precision="f32", sizing=Sizing(2)).failure)
    assert failure.endswith("model.onnx: batch_size: this network takes one tile at a time")


def test_one_tile_spoils_no_other(make_bundle: MakeBundle, runtime):
    model = served(make_bundle(), make_runtime=runtime, sizing=Sizing(3))
    tiles = np.full((3, *model.tile_shape), 0.5, np.float16)
    tiles[1] = 0.25

    def breaks(answer: np.ndarray) -> np.ndarray:
        if (answer[:, 1] == 0.25).any():
            raise RuntimeError("cannot")
        return answer

    def gives_nan(answer: np.ndarray) -> np.ndarray:
        return np.where(answer[:, 1:] == 0.25, np.float16(np.nan), answer)

    for behaviour in (breaks, gives_nan):
        runtime.behaviour = behaviour
        one, bad, other = model.answers(tiles)
        assert isinstance(bad, ModelError)
        assert (one == 0.5).all()
        assert (other == 0.5).all()


def test_a_shipped_network_answers_alone_as_in_company():
    bundle = Path(__file__).resolve().parents[3] / "models" / "hippocampus-mixup"
    model = served(bundle, sizing=Sizing(3))
    # The self-test compares every place of the batch, bit by bit.
    assert (model.failure, model.batch_size) == (None, 3)
    rng = np.random.default_rng(2)
    tiles = rng.random((3, *model.tile_shape)).astype(np.float16)
    (alone,) = model.answers(tiles[:1])
    for place in range(3):
        company = np.roll(tiles, place, axis=0)
        assert model.answers(company)[place].tobytes() == alone.tobytes()
