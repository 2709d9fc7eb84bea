"""Where settings come from, which of them wins, and what is said of bad ones."""

import os
from pathlib import Path

import pytest

from veilseg.errors import InvalidInput, WrongUsage
from veilseg.serving.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch):
    for name in list(os.environ):
        if name.startswith("VEILSEG_SERVE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "serve.toml"
    file.write_text('port = 1\nqueue_places = 1\ndeadline_s = 1\nbundles = ["a", "b"]\n')
    return file


def test_command_line_over_environment_over_file(file: Path, monkeypatch: pytest.MonkeyPatch):
    assert load_settings() == Settings()
    monkeypatch.setenv("VEILSEG_SERVE_PORT", "2")
    monkeypatch.setenv("VEILSEG_SERVE_QUEUE_PLACES", "2")
    found = load_settings(file, {"port": 3, "host": None})
    assert (found.port, found.queue_places, found.deadline_s) == (3, 2, 1)
    assert found.bundles == (Path("a"), Path("b"))
    assert found.host == "127.0.0.1"
    monkeypatch.setenv("VEILSEG_SERVE_BUNDLES", f"c{os.pathsep}d")
    assert load_settings(file).bundles == (Path("c"), Path("d"))
    assert load_settings(file, {"bundles": [Path("e")]}).bundles == (Path("e"),)


def test_a_bad_value_is_named_with_its_place(file: Path, monkeypatch: pytest.MonkeyPatch):
    for given, place in (
        ({"port": 70000}, "--port: Input should be less than or equal to 65535"),
        ({"batch_size": 0}, "--batch-size: "),
        (
            {"engine": "ray", "runtime": "onnxruntime"},
            "runtime: replicas on Ray compute by openvino, not onnxruntime",
        ),
        (
            {"runtime": "onnxruntime", "batch_size": 4},
            "batch_size: onnxruntime computes tile by tile",
        ),
        ({"precision": "int4"}, "--precision: Input should be 'auto', 'bf16' or 'f32'"),
        ({"tls_cert": "x"}, "tls_cert and tls_key: give both or neither"),
        ({"client_ca": "x"}, "client_ca: needs tls_cert and tls_key"),
        ({"min_replicas": 2}, "min_replicas: more than max_replicas"),
        ({"engine": "threads"}, "--engine: Input should be 'uvicorn' or 'ray'"),
    ):
        with pytest.raises(WrongUsage) as caught:
            load_settings(None, given)
        assert str(caught.value).startswith(place)
        assert "\n" not in str(caught.value)
    file.write_text('deadline_s = "soon"')
    with pytest.raises(WrongUsage, match=r"serve\.toml: deadline_s: Input should be a valid num"):
        load_settings(file)
    monkeypatch.setenv("VEILSEG_SERVE_DEADLINE_S", "never")
    with pytest.raises(WrongUsage, match="VEILSEG_SERVE_DEADLINE_S: Input should be a valid num"):
        load_settings(file)


def test_an_unknown_name_is_no_silence(file: Path, monkeypatch: pytest.MonkeyPatch):
    file.write_text("queue_place = 3")
    with pytest.raises(WrongUsage, match=r"serve\.toml: queue_place: Extra inputs are not perm"):
        load_settings(file)
    monkeypatch.setenv("VEILSEG_SERVE_QUEUE_PLACE", "3")
    with pytest.raises(WrongUsage, match="VEILSEG_SERVE_QUEUE_PLACE: there is no such setting"):
        load_settings()


def test_files_that_are_none(file: Path, tmp_path: Path):
    with pytest.raises(InvalidInput, match="none: cannot be read: No such file"):
        load_settings(tmp_path / "none")
    file.write_text("port 1")
    with pytest.raises(InvalidInput, match=r"serve\.toml: no TOML: Expected"):
        load_settings(file)
    file.write_bytes(b"\xff")
    with pytest.raises(InvalidInput, match=r"serve\.toml: no TOML: "):
        load_settings(file)
