import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino as ov
import pytest

from veilseg.bundle import TensorSpec, open_server_half
from veilseg.errors import InvalidInput
from veilseg.serving.errors import ModelError, ModelNotReady, UnknownModel
from veilseg.serving.models import ModelRepository, ServedModel
from veilseg.serving.runtime import (
    OpenVinoRuntime,
    require_available,
    require_precision,
)

MakeBundle = Callable[..., Path]


def served(bundle: Path, **options) -> ServedModel:
    return ServedModel(open_server_half(bundle), **options)


@pytest.mark.parametrize("datatype", ["FP16", "FP32"])
def test_a_batch_equals_its_tiles_one_by_one(make_bundle: MakeBundle, datatype: str):
    model = served(make_bundle(datatype=datatype), precision="f32")
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


def test_precisions_by_name():
    assert require_precision("bf16") == "bf16"
    with pytest.raises(InvalidInput, match="'fp8' is none of bf16, f32, auto"):
        require_precision("fp8")


def test_the_file_has_to_keep_what_the_manifest_promises(make_bundle: MakeBundle):
    bundle = open_server_half(make_bundle())
    proxy, answer = bundle.manifest.proxy, bundle.manifest.answer
    for other in (
        TensorSpec("image", proxy.datatype, proxy.shape),
        TensorSpec(proxy.name, "FP32", proxy.shape),
        TensorSpec(proxy.name, proxy.datatype, (1, 1, 8, 6, 5)),
    ):
        with pytest.raises(InvalidInput, match="its tensors are not the manifest's"):
            OpenVinoRuntime(bundle.model_file, other, answer, "f32")


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


def test_models_by_name_and_version(model: ServedModel):
    models = ModelRepository([model])
    for version in (None, "1.2.0", "1"):
        assert models.get("tiny", version) is model
    with pytest.raises(UnknownModel, match=r"unknown model '\.\./tiny'"):
        models.get("../tiny")
    with pytest.raises(UnknownModel, match="unknown version '2' of model 'tiny'"):
        models.get("tiny", "2")


def test_one_name_one_model(make_bundle: MakeBundle, model: ServedModel):
    with pytest.raises(InvalidInput, match="two bundles are named tiny"):
        ModelRepository([model, model])
    halves = [open_server_half(make_bundle()), open_server_half(make_bundle(version="2"))]
    with pytest.raises(InvalidInput, match="two bundles are named tiny"):
        ModelRepository.load(halves, make_runtime=lambda *_: pytest.fail("compiled"))
    with pytest.raises(InvalidInput, match="no bundle to serve"):
        ModelRepository.load([])


def test_one_that_fails_does_not_keep_the_others(
    make_bundle: MakeBundle, caplog: pytest.LogCaptureFixture
):
    bundles = [make_bundle(), make_bundle(name="broken", factor=0.5)]
    with caplog.at_level("INFO", logger="veilseg.serving"):
        models = ModelRepository.load([open_server_half(b) for b in bundles], "f32")
    assert [model.failure is None for model in models] == [True, False]
    assert not models.ready
    assert "model tiny version 1.2.0 bundle" in caplog.text
    assert "precision f32: ready" in caplog.text
    assert "model broken version 1.2.0 bundle" in caplog.text
