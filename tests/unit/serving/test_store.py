"""Bundles that come and go on disk."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from veilseg.bundle import ServerBundle
from veilseg.errors import BundleIntegrity, InvalidInput
from veilseg.serving.errors import NotLoaded, UnknownModel
from veilseg.serving.models import ServedModel
from veilseg.serving.store import ModelStore

Make = Callable[..., ModelStore]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def put(folder: Path, make_bundle: Callable[..., Path]) -> Callable[..., Path]:
    """Copy a bundle into the folder."""

    def run(place: str, **options) -> Path:
        return Path(shutil.copytree(make_bundle(**options), folder / place))

    return run


@pytest.fixture
def make(runtime) -> Make:
    compiled: list[str] = []

    def compile_model(half: ServerBundle) -> ServedModel:
        compiled.append(f"{half.manifest.name} {half.manifest.version}")
        return ServedModel(half, "f32", runtime)

    def build(*bundles: Path, folder: Path | None = None) -> ModelStore:
        store = ModelStore(bundles, folder, compile_model)
        store.compiled = compiled
        return store

    return build


def listed(store: ModelStore) -> list[tuple[str, str, str, str]]:
    return [
        tuple(entry[k] for k in ("name", "version", "state", "reason")) for entry in store.index()
    ]


def test_everything_is_served_at_the_start(make: Make, folder: Path, put, make_bundle):
    put("a", name="a")
    (folder / "notes").mkdir()
    (folder / "readme.txt").write_text("no bundle")
    store = make(make_bundle(name="b"), folder=folder)
    assert {model.name for model in store.models} == {"a", "b"}
    assert listed(store) == [("a", "1.2.0", "READY", ""), ("b", "1.2.0", "READY", "")]


def test_what_is_being_written_is_not_served(make: Make, folder: Path, put):
    """Two of one version would be refused."""
    put("1")
    put(".veilseg-killed")
    assert len(list(make(folder=folder).models)) == 1


def test_versions_come_and_go(make: Make, folder: Path, put):
    first = put("a-1", name="a", version="1.0")
    store = make(folder=folder)
    one = store.models.get("a")
    put("a-2", name="a", version="2.0")
    assert listed(store)[1] == ("a", "2.0", "UNAVAILABLE", "unloaded")
    assert store.load("a") == []
    assert store.models.versions("a") == ("1.0", "2.0")
    # What was hosted goes on as it was: it is not compiled again.
    assert store.models.get("a", "1.0") is one
    assert store.compiled == ["a 1.0", "a 2.0"]
    shutil.rmtree(first)
    assert store.load("a") == [one]
    assert store.models.versions("a") == ("2.0",)
    store.unload("a")
    assert listed(store) == [("a", "2.0", "UNAVAILABLE", "unloaded")]
    with pytest.raises(UnknownModel, match="unknown model 'a'"):
        store.unload("a")
    store.load("a")
    assert store.models.get("a").version == "2.0"


def test_a_bundle_that_was_replaced(make: Make, folder: Path, put):
    place = put("a", name="a")
    store = make(folder=folder)
    before = store.models.get("a")
    shutil.rmtree(place)
    put("a", name="a", selftest=None, datatype="FP32")
    assert store.load("a") == [before]
    assert store.models.get("a").manifest.proxy.datatype == "FP32"


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda put: put("bad", version="9", selftest=b"none"), "version 9: self-test: no array"),
        (lambda put: put("twice"), r"two bundles are tiny 1\.2\.0"),
        (
            lambda put: (put("cut", version="9") / "server/tiny/1/model.onnx").write_bytes(b"x"),
            "SHA-256 differs from the manifest",
        ),
    ],
)
def test_what_cannot_be_loaded_changes_nothing(make: Make, folder: Path, put, harm, reason: str):
    put("good")
    store = make(folder=folder)
    before = list(store.models)
    harm(put)
    with pytest.raises(NotLoaded, match=reason):
        store.load("tiny")
    assert list(store.models) == before


@pytest.mark.parametrize("name", ["none", "../tiny", "", "."])
def test_unknown_names(make: Make, folder: Path, put, name: str):
    put("tiny")
    store = make(folder=folder)
    with pytest.raises(UnknownModel, match="unknown model"):
        store.load(name)


def test_a_half_copied_bundle_hides_no_other(
    make: Make, folder: Path, put, caplog: pytest.LogCaptureFixture
):
    put("good")
    store = make(folder=folder)
    (put("half", name="other") / "server/manifest.json").write_text('{"name":')
    assert [entry["name"] for entry in store.index()] == ["tiny"]
    assert "half: no readable manifest (JSONDecodeError)" in caplog.text
    store.load("tiny")


def test_what_no_server_starts_with(make: Make, tmp_path: Path, make_bundle, put, folder: Path):
    with pytest.raises(InvalidInput, match="no bundle to serve"):
        make()
    with pytest.raises(InvalidInput, match="none: no folder of bundles"):
        make(folder=tmp_path / "none")
    with pytest.raises(InvalidInput, match="no server half"):
        make(tmp_path)
    two = make_bundle(), make_bundle(factor=2.0)
    with pytest.raises(InvalidInput, match=r"two bundles are tiny 1\.2\.0: serve one of them"):
        make(*two)
    (put("cut") / "server/tiny/1/model.onnx").write_bytes(b"x")
    with pytest.raises(BundleIntegrity, match="SHA-256 differs"):
        make(folder=folder)


def test_one_that_fails_does_not_keep_the_others(
    make: Make, make_bundle, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level("INFO", logger="veilseg.serving"):
        store = make(make_bundle(), make_bundle(name="broken", selftest=b"none"))
    assert [model.failure is None for model in store.models] == [True, False]
    assert listed(store)[0][:3] == ("broken", "1.2.0", "UNAVAILABLE")
    assert "model tiny version 1.2.0 bundle" in caplog.text
    assert "precision f32: ready" in caplog.text
    assert "model broken version 1.2.0 bundle" in caplog.text


def test_a_folder_may_be_empty_at_first(make: Make, folder: Path, put):
    store = make(folder=folder)
    assert store.index() == []
    put("a", name="a")
    store.load("a")
    assert store.models.get("a").failure is None
