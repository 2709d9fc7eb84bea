"""Tokens from files and the environment; certificates that cannot be used."""

import ssl
from pathlib import Path

import pytest
import trustme

from veilseg.client.credentials import Credentials
from veilseg.errors import InvalidInput

TOKEN = "veilseg_0123456789ab_" + "x" * 43


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    return file


def test_a_token_from_a_file_or_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("VEILSEG_TOKEN", raising=False)
    assert Credentials.read().headers == {}
    monkeypatch.setenv("VEILSEG_TOKEN", "other ")
    assert Credentials.read().headers == {"Authorization": "Bearer other"}
    found = Credentials.read(file)
    assert found.headers == {"Authorization": f"Bearer {TOKEN}"}
    assert TOKEN not in repr(found)
    assert "token='…'" in repr(found)


def test_files_that_hold_no_token(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(InvalidInput, match="none: cannot be read: No such file"):
        Credentials.read(tmp_path / "none")
    for content in (b"", b"\n", b"two words", b"one\ntwo", "é".encode(), b"x" * 5000):
        file.write_bytes(content)
        with pytest.raises(InvalidInput, match="token: holds no token") as caught:
            Credentials.read(file)
        assert "words" not in str(caught.value)
    file.chmod(0o644)
    file.write_text(TOKEN)
    with pytest.raises(InvalidInput, match=r"open to others \(mode 644\): chmod 600 it"):
        Credentials.read(file)
    monkeypatch.setenv("VEILSEG_TOKEN", "a\r\nX-Injected: 1")
    with pytest.raises(InvalidInput, match=r"^VEILSEG_TOKEN: holds no token"):
        Credentials.read()


def test_certificates(tmp_path: Path):
    authority = trustme.CA()
    issued = authority.issue_cert("site.example")
    ca, cert, key = tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem"
    authority.cert_pem.write_to_path(ca)
    issued.cert_chain_pems[0].write_to_path(cert)
    issued.private_key_pem.write_to_path(key)
    context = Credentials("", ca, cert, key).tls()
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert len(context.get_ca_certs()) == 1
    assert Credentials().tls().verify_mode == ssl.CERT_REQUIRED
    for given, reason in (
        (Credentials(ca=tmp_path / "none"), "none: no certificates: No such file"),
        (Credentials(ca=key), "key.pem: no certificates: "),
        (Credentials(client_cert=ca, client_key=key), "ca.pem: no usable certificate with its key"),
        (Credentials(client_cert=cert), "cert.pem: no usable certificate with its key: "),
        (
            Credentials(client_cert=tmp_path / "none"),
            "none: no usable certificate with its key: No",
        ),
        (Credentials(client_key=key), "--client-key: needs --client-cert"),
    ):
        with pytest.raises(InvalidInput) as caught:
            given.tls()
        assert reason in str(caught.value)
