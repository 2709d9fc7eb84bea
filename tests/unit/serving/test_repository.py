"""Models by name and version, while they change."""

from collections.abc import Callable
from pathlib import Path

import pytest

from veilseg.bundle import open_server_half
from veilseg.errors import InvalidInput
from veilseg.serving.errors import UnknownModel
from veilseg.serving.models import ServedModel
from veilseg.serving.repository import ModelRepository


@pytest.fixture
def make_model(make_bundle: Callable[..., Path], runtime) -> Callable[..., ServedModel]:
    return lambda **options: ServedModel(open_server_half(make_bundle(**options)), "f32", runtime)


def test_models_by_name_and_version(model: ServedModel):
    models = ModelRepository([model])
    for version in (None, "1.2.0", "1"):
        assert models.get("tiny", version) is model
    with pytest.raises(UnknownModel, match=r"unknown model '\.\./tiny'"):
        models.get("../tiny")
    with pytest.raises(UnknownModel, match="unknown version '2' of model 'tiny'"):
        models.get("tiny", "2")


def test_versions_side_by_side(make_model):
    versions = ["1.10.0", "1.9", "1.10.0-rc1", "1.2.0"]
    models = ModelRepository(make_model(version=version) for version in versions)
    assert models.versions("tiny") == ("1.2.0", "1.9", "1.10.0-rc1", "1.10.0")
    assert models.versions("other") == ()
    for version in versions:
        assert models.get("tiny", version).version == version
    # Who asks for none, or for Triton's folder, gets the newest.
    assert models.get("tiny").version == models.get("tiny", "1").version == "1.10.0"


def test_the_newest_that_answers(make_model):
    models = ModelRepository([make_model(version="1"), make_model(version="2", selftest=b"no")])
    assert models.get("tiny").version == "1"
    assert models.get("tiny", "2").failure is not None
    assert not models.ready


def test_a_version_named_as_tritons_folder(make_model):
    models = ModelRepository([make_model(version="1"), make_model(version="2")])
    assert models.get("tiny", "1").version == "1"


def test_one_name_and_version_one_model(make_model):
    with pytest.raises(InvalidInput, match=r"two bundles are tiny 1\.2\.0: serve one of them"):
        ModelRepository([make_model(), make_model()])


def test_replacing(make_model):
    old, kept, other = make_model(version="1"), make_model(version="2"), make_model(name="other")
    models = ModelRepository([old, kept, other])
    new = make_model(version="3")
    assert models.replace("tiny", [kept, new]) == [old]
    assert models.versions("tiny") == ("2", "3")
    assert models.replace("tiny", []) == [kept, new]
    assert list(models) == [other]
    with pytest.raises(UnknownModel, match="unknown model 'tiny'"):
        models.get("tiny")
