import subprocess
import sys
from pathlib import Path

import pytest

from veilseg.cli.serve import serve
from veilseg.errors import InvalidInput, MissingDependency, WrongUsage
from veilseg.serving import sockets


def test_a_free_port():
    with sockets.bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert sockets.url_of(listener) == f"http://127.0.0.1:{port}"
        with pytest.raises(InvalidInput, match=rf"^cannot listen on 127\.0\.0\.1:{port}: .*in use"):
            sockets.bind("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "port"),
    [("203.0.113.7", 0), ("no.such.host.invalid", 0), ("a..b", 0), ("127.0.0.1", 70000)],
)
def test_hosts_and_ports_that_are_none(host: str, port: int):
    with pytest.raises(InvalidInput, match=f"^cannot listen on {host}:{port}: [^\n]+$"):
        sockets.bind(host, port)


def test_serve_says_what_is_wrong_before_it_compiles(tmp_path: Path):
    with pytest.raises(InvalidInput, match="no server half"):
        serve([tmp_path], port=0)
    with pytest.raises(WrongUsage, match="--precision: Input should be 'auto', 'bf16' or 'f32'"):
        serve([tmp_path], port=0, precision="int4")
    with sockets.bind("127.0.0.1", 0) as taken, pytest.raises(InvalidInput, match="in use"):
        serve([tmp_path], port=taken.getsockname()[1])


def test_other_machines_are_let_in_on_purpose_only(tmp_path: Path):
    with sockets.bind("0.0.0.0", 0) as everywhere, sockets.bind("127.0.0.1", 0) as here:
        both = {"--tokens": "t", "--tls-cert": "c"}
        neither = dict.fromkeys(both)
        sockets.require_guarded(here, "127.0.0.1", neither, insecure=False)
        sockets.require_guarded(everywhere, "0.0.0.0", both, insecure=False)
        sockets.require_guarded(everywhere, "0.0.0.0", neither, insecure=True)
        for given, missing in (
            ({}, "--tokens and --tls-cert"),
            ({"--tokens": "t"}, "--tls-cert"),
            ({"--tls-cert": "c"}, "--tokens"),
        ):
            with pytest.raises(WrongUsage, match=f"reach it: give {missing}, or --insecure"):
                sockets.require_guarded(everywhere, "0.0.0.0", neither | given, insecure=False)
    with pytest.raises(WrongUsage, match=r"--host 0\.0\.0\.0: other machines reach it"):
        serve([tmp_path], host="0.0.0.0", port=0)


def test_serving_is_an_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    for name in ("veilseg.serving.listen", "veilseg.serving.service"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.delattr(name, raising=False)
    with pytest.raises(MissingDependency, match=r"uvicorn: pip install 'veilseg\[server\]'"):
        serve([tmp_path])


def test_the_server_has_nothing_that_recovers():
    code = "import sys, veilseg.serving.app, veilseg.serving.listen; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    inner = ("schemes", "vault", "client", "imaging")
    assert not [name for name in loaded if name.startswith(tuple(f"veilseg.{i}" for i in inner))]
    assert {"torch", "httpx", "nibabel"}.isdisjoint(loaded)
