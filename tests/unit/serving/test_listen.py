import subprocess
import sys
from pathlib import Path

import pytest

from veilseg.cli.serve import serve
from veilseg.errors import InvalidInput, MissingDependency, WrongUsage
from veilseg.serving import listen
from veilseg.serving.settings import Settings


def test_a_free_port():
    with listen.bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert listen.url_of(listener) == f"http://127.0.0.1:{port}"
        with pytest.raises(InvalidInput, match=rf"^cannot listen on 127\.0\.0\.1:{port}: .*in use"):
            listen.bind("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "port"),
    [("203.0.113.7", 0), ("no.such.host.invalid", 0), ("a..b", 0), ("127.0.0.1", 70000)],
)
def test_hosts_and_ports_that_are_none(host: str, port: int):
    with pytest.raises(InvalidInput, match=f"^cannot listen on {host}:{port}: [^\n]+$"):
        listen.bind(host, port)


def test_serve_says_what_is_wrong_before_it_compiles(tmp_path: Path):
    with pytest.raises(InvalidInput, match="no server half"):
        serve([tmp_path], port=0)
    with pytest.raises(WrongUsage, match="--precision: Input should be 'auto', 'bf16' or 'f32'"):
        serve([tmp_path], port=0, precision="int4")
    with listen.bind("127.0.0.1", 0) as taken, pytest.raises(InvalidInput, match="in use"):
        serve([tmp_path], port=taken.getsockname()[1])


def test_other_machines_are_let_in_on_purpose_only(tmp_path: Path):
    with listen.bind("0.0.0.0", 0) as everywhere, listen.bind("127.0.0.1", 0) as here:
        listen.require_guarded(here, Settings())
        both = {"tokens": "t", "tls_cert": "c", "tls_key": "k"}
        listen.require_guarded(everywhere, Settings(host="0.0.0.0", **both))
        listen.require_guarded(everywhere, Settings(host="0.0.0.0", insecure=True))
        for given, missing in (
            ({}, "--tokens and --tls-cert"),
            ({"tokens": "t"}, "--tls-cert"),
            ({"tls_cert": "c", "tls_key": "k"}, "--tokens"),
        ):
            with pytest.raises(WrongUsage, match=f"reach it: give {missing}, or --insecure"):
                listen.require_guarded(everywhere, Settings(host="0.0.0.0", **given))
    with pytest.raises(WrongUsage, match=r"--host 0\.0\.0\.0: other machines reach it"):
        serve([tmp_path], host="0.0.0.0", port=0)


def test_serving_is_an_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "veilseg.serving.listen", raising=False)
    monkeypatch.delattr("veilseg.serving.listen", raising=False)
    with pytest.raises(MissingDependency, match=r"uvicorn: pip install 'veilseg\[server\]'"):
        serve([tmp_path])


def test_the_server_has_nothing_that_recovers():
    code = "import sys, veilseg.serving.app, veilseg.serving.listen; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    inner = ("schemes", "vault", "client", "imaging")
    assert not [name for name in loaded if name.startswith(tuple(f"veilseg.{i}" for i in inner))]
    assert {"torch", "httpx", "nibabel"}.isdisjoint(loaded)
