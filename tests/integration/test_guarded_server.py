"""``veilseg segment`` and ``veilseg serve`` with tokens and TLS, on both sides of the line."""

import os
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import phantoms
import pytest
import trustme
from processes import ServeProcess

from veilseg.access import token_file


@dataclass(frozen=True)
class Guarded:
    """A server that wants a certificate and a token, and what a site has to show."""

    url: str
    log: Path
    tokens: Path
    token: Path
    ca: Path
    other_ca: Path
    site: Path

    @property
    def shown(self) -> list[object]:
        return ["--ca", self.ca, "--client-cert", self.site, "--token-file", self.token]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, plain_bundle: Path) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    other.cert_pem.write_to_path(folder / "other.pem")
    for name in ("127.0.0.1", "site.example"):
        issued = authority.issue_cert(name)
        issued.private_key_and_cert_chain_pem.write_to_path(folder / f"{name}.pem")
    tokens, token = folder / "tokens.json", folder / "token"
    text, _ = token_file.add(tokens, "uni", ["infer"], 1)
    token.write_text(text)
    token.chmod(0o600)
    server = folder / "127.0.0.1.pem"
    arguments = ["--tls-cert", server, "--tls-key", server, "--client-ca", folder / "ca.pem"]
    with ServeProcess(folder / "log", plain_bundle, "--tokens", tokens, *arguments) as process:
        yield Guarded(
            process.url,
            *(process.log, tokens, token),
            *(folder / "ca.pem", folder / "other.pem", folder / "site.example.pem"),
        )


@pytest.fixture(autouse=True)
def no_token_in_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("VEILSEG_TOKEN", raising=False)


def test_a_site_that_shows_everything(
    veilseg: Callable,
    guarded: Guarded,
    image: Path,
    labels: np.ndarray,
    plain_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    given = ["segment", image, "--bundle", plain_bundle, "--server", guarded.url]
    ended = veilseg(*given, *guarded.shown, "-o", tmp_path / "out.nii.gz")
    assert ended.code == 0, ended.err
    np.testing.assert_array_equal(phantoms.read_labels(tmp_path / "out.nii.gz"), labels)
    # The same from the environment.
    monkeypatch.setenv("VEILSEG_TOKEN", guarded.token.read_text())
    ended = veilseg(*given, *guarded.shown[:4], "-o", tmp_path / "again.nii.gz")
    assert ended.code == 0, ended.err
    assert "site=uni" in guarded.log.read_text()
    assert guarded.token.read_text()[-43:] not in guarded.log.read_text() + ended.err + ended.out


def test_what_is_missing_is_said_in_one_line(
    expect: Callable, guarded: Guarded, image: Path, plain_bundle: Path, no_pauses: list[float]
):
    given = [image, "--bundle", plain_bundle, "--server", guarded.url]
    ca, site, token = guarded.shown[:2], guarded.shown[2:4], guarded.shown[4:]
    line = expect(4, *given, *ca, *site)
    assert line == f"{guarded.url}: wants a token: give --token-file FILE or set VEILSEG_TOKEN"
    line = expect(4, *given, *site, *token)
    assert line.startswith(f"{guarded.url}: its certificate is not accepted: ")
    line = expect(4, *given, "--ca", guarded.other_ca, *site, *token)
    assert line.startswith(f"{guarded.url}: its certificate is not accepted: ")
    line = expect(4, *given, *ca, *token)
    assert line.startswith(f"{guarded.url}: ")
    assert line.endswith("(if it wants this site's certificate, give --client-cert)")
    wrong = guarded.url.replace("127.0.0.1", "localhost")
    line = expect(4, image, "--bundle", plain_bundle, "--server", wrong, *guarded.shown)
    assert "its certificate is not accepted: Hostname mismatch" in line


def test_a_token_without_the_role(
    expect: Callable, guarded: Guarded, image: Path, plain_bundle: Path, tmp_path: Path
):
    file = tmp_path / "watcher"
    file.write_text(token_file.add(guarded.tokens, "watcher", ["metrics"], 1)[0])
    file.chmod(0o600)
    shown = [*guarded.shown[:4], "--token-file", file]
    line = expect(4, image, "--bundle", plain_bundle, "--server", guarded.url, *shown)
    reason = "does not accept this token: 403 this needs the role infer or admin"
    assert line == f"{guarded.url}: {reason}"
    file.chmod(0o644)
    line = expect(3, image, "--bundle", plain_bundle, "--server", guarded.url, *shown)
    assert line == f"{file}: open to others (mode 644): chmod 600 it"


def test_a_token_that_was_revoked(
    expect: Callable, guarded: Guarded, image: Path, plain_bundle: Path, tmp_path: Path
):
    file = tmp_path / "token"
    text, grant = token_file.add(guarded.tokens, "gone", ["infer"], 1)
    file.write_text(text)
    file.chmod(0o600)
    token_file.revoke(guarded.tokens, grant.id)
    shown = [*guarded.shown[:4], "--token-file", file]
    line = expect(4, image, "--bundle", plain_bundle, "--server", guarded.url, *shown)
    assert line == f"{guarded.url}: does not accept this token: 401 the token is revoked"


def test_a_certificate_is_renewed_while_the_server_runs(plain_bundle: Path, tmp_path: Path):
    def issue(name: str) -> ssl.SSLContext:
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "new.pem")
        (tmp_path / "new.pem").replace(tmp_path / "server.pem")
        authority.cert_pem.write_to_path(tmp_path / name)
        return ssl.create_default_context(cafile=tmp_path / name)

    old, pem = issue("old.pem"), tmp_path / "server.pem"
    with ServeProcess(
        tmp_path / "log", plain_bundle, "--tls-cert", pem, "--tls-key", pem
    ) as server:
        live = f"{server.url}/v2/health/live"
        assert httpx.get(live, verify=old).status_code == 200
        new = issue("renewed.pem")
        deadline = time.monotonic() + 60
        while "certificate read anew" not in server.text:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert httpx.get(live, verify=new).status_code == 200
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            httpx.get(live, verify=old)


def test_no_token_in_the_clear(expect: Callable, guarded: Guarded, image: Path, plain_bundle: Path):
    given = [image, "--bundle", plain_bundle, "--server", "http://192.0.2.1:1"]
    line = expect(3, *given, "--token-file", guarded.token)
    assert line == "server URL http://192.0.2.1:1: a token goes over https:// only"


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "line"),
    [
        (
            ["--host", "0.0.0.0"],
            {},
            2,
            "--host 0.0.0.0: other machines reach it: give --tokens and",
        ),
        (["--port", "99999"], {}, 2, "--port: Input should be less than or equal to 65535"),
        ([], {"VEILSEG_SERVE_DRAIN_S": "x"}, 2, "VEILSEG_SERVE_DRAIN_S: Input should be a valid"),
        ([], {"VEILSEG_SERVE_DRAIN": "1"}, 2, "VEILSEG_SERVE_DRAIN: there is no such setting"),
        (["--tls-cert", "x"], {}, 2, "tls_cert and tls_key: give both or neither"),
        (["--tokens", "none"], {}, 3, "none: no tokens file; make one with: veilseg token issue"),
        (["--config", "none"], {}, 3, "none: cannot be read: No such file or directory"),
        (["--models", "none"], {}, 3, "none: no folder of bundles"),
        (["--audit-log", "."], {}, 3, ".: cannot be written: Is a directory"),
    ],
)
def test_servers_that_do_not_start(
    veilseg: Callable,
    plain_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    environment: dict[str, str],
    code: int,
    line: str,
):
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    port = [] if "--port" in arguments else ["--port", 0]
    ended = veilseg("serve", plain_bundle, *port, *arguments)
    assert ended.code == code, ended.err
    assert ended.err.startswith(f"veilseg: {line}"), ended.err
    assert ended.err.count("\n") == 1


def test_a_server_with_nothing_to_serve(veilseg: Callable):
    ended = veilseg("serve")
    assert (ended.code, ended.err) == (
        2,
        "veilseg: no bundle to serve: give bundles, or a folder of them with --models\n",
    )


def test_token_commands(veilseg: Callable, tmp_path: Path):
    file, out = tmp_path / "tokens.json", tmp_path / "token"
    issued = veilseg("token", "issue", file, "--site", "uni", "--days", 2)
    assert issued.code == 0
    (token,) = issued.out.split()
    name = token.split("_")[1]
    assert f"{name} uni infer until " in issued.err
    assert token not in issued.err
    rotated = veilseg("token", "rotate", file, name, "--grace-hours", 1, "--out", out)
    assert (rotated.code, rotated.out) == (0, "")
    assert out.stat().st_mode & 0o777 == 0o600
    assert out.read_text().startswith("veilseg_")
    again = veilseg("token", "issue", file, "--site", "x", "--role", "admin", "--out", out)
    assert again.code == 3
    assert "a token is never overwritten" in again.err
    assert veilseg("token", "revoke", file, name).out.endswith(" revoked\n")
    listed = veilseg("token", "list", file).out
    assert len(listed.splitlines()) == 2
    assert [line.rpartition(" ")[2] for line in listed.splitlines()] == ["revoked", "valid"]
    assert token[-43:] not in listed + file.read_text()
    for arguments, code, reason in (
        (["issue", file, "--site", "a b"], 3, "site: 'a b' is no name"),
        (["issue", file, "--site", "a", "--role", "root"], 2, "--role root: choose infer, metrics"),
        (["revoke", file, "none"], 3, "no token none"),
        (["list", tmp_path / "none"], 3, "no tokens file; make one with"),
    ):
        ended = veilseg("token", *arguments)
        assert ended.code == code
        assert reason in ended.err
        assert ended.err.count("\n") == 1


@pytest.mark.parametrize("command", ["token list x", "log verify x"])
def test_tokens_and_logs_come_with_the_server(
    veilseg: Callable, monkeypatch: pytest.MonkeyPatch, command: str
):
    monkeypatch.setitem(sys.modules, "filelock", None)
    for name in ("access.token_file", "access.audit_log", "cli.token", "cli.log"):
        monkeypatch.delitem(sys.modules, f"veilseg.{name}", raising=False)
        package, _, module = f"veilseg.{name}".rpartition(".")
        if package in sys.modules:
            monkeypatch.delattr(sys.modules[package], module, raising=False)
    ended = veilseg(*command.split())
    assert ended.code == 3
    assert ended.err.endswith("need filelock: pip install 'veilseg[server]'\n")


def test_a_secret_is_no_argument(veilseg: Callable):
    # What stands on a command line, every user of the machine can read.
    for command in ("segment", "serve"):
        assert "--token " not in veilseg(command, "--help").out.replace("--token-file", "")


def test_log_commands(veilseg: Callable, guarded: Guarded, tmp_path: Path, plain_bundle, image):
    file = tmp_path / "audit.jsonl"
    with ServeProcess(tmp_path / "log", plain_bundle, "--audit-log", file) as process:
        for number in range(2):
            given = ["segment", image, "--bundle", plain_bundle, "--server", process.url]
            assert veilseg(*given, "-o", tmp_path / f"{number}.nii.gz").code == 0
        second = veilseg("serve", plain_bundle, "--port", 0, "--audit-log", file)
        assert second.code == 3
        assert "another server writes this audit log" in second.err
    found = veilseg("log", "verify", file)
    count = len(file.read_text().splitlines())
    assert count >= 4
    told, head, missed = found.out.splitlines()
    assert told == f"{file}: unbroken, entries: {count}"
    assert missed == "entries cut off the end are missed without a --head from after them"
    assert image.name not in file.read_text()
    head = head.removeprefix("head ")
    assert veilseg("log", "verify", file, "--head", head).code == 0
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:-1]))
    ended = veilseg("log", "verify", file, "--head", head)
    assert (ended.code, ended.err.count("\n")) == (5, 1)
    assert "is not in the log: lines were cut off" in ended.err
    file.write_bytes(b"".join(lines[:1] + lines[2:]))
    assert veilseg("log", "verify", file).code == 5
    assert os.environ.get("VEILSEG_TOKEN") is None
