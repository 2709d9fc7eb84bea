"""The server's TLS: versions, certificates of both sides, renewal."""

import contextlib
import ssl
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from veilseg.errors import InvalidInput
from veilseg.serving.tls import ServerTls


@dataclass(frozen=True)
class Party:
    """An authority and what it issued for localhost."""

    authority: trustme.CA
    cert: Path
    key: Path
    ca: Path


@pytest.fixture
def make_party(tmp_path: Path):
    def build(name: str) -> Party:
        authority = trustme.CA()
        issued = authority.issue_cert("localhost")
        cert, key, ca = (tmp_path / f"{name}.{part}" for part in ("cert", "key", "ca"))
        issued.cert_chain_pems[0].write_to_path(cert)
        issued.private_key_pem.write_to_path(key)
        authority.cert_pem.write_to_path(ca)
        return Party(authority, cert, key, ca)

    return build


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """A handshake in memory; gives the client's end. Raises what either side raises."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(10):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    # With TLS 1.3 a server's refusal comes with the first read only.
    with contextlib.suppress(ssl.SSLWantReadError):
        ends[0].read()
    return ends[0]


def client_of(party: Party, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=party.ca)
    if version is not None:
        limit(context, version, version)
    return context


def limit(context: ssl.SSLContext, lowest: ssl.TLSVersion, highest: ssl.TLSVersion) -> None:
    # Else OpenSSL itself would refuse old versions, and nothing would be shown.
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version, context.maximum_version = lowest, highest


def test_versions(make_party):
    party = make_party("server")
    server = ServerTls(party.cert, party.key).context
    assert shake_hands(server, client_of(party)).version() == "TLSv1.3"
    assert shake_hands(server, client_of(party, ssl.TLSVersion.TLSv1_2)).version() == "TLSv1.2"
    server.set_ciphers("DEFAULT:@SECLEVEL=0")
    old = client_of(party, ssl.TLSVersion.TLSv1_1)
    with pytest.raises(ssl.SSLError, match=r"UNSUPPORTED_PROTOCOL|VERSION"):
        shake_hands(server, old)
    # The positive control: what refused it was the server's minimum, and nothing else.
    limit(server, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_3)
    assert shake_hands(server, old).version() == "TLSv1.1"


def test_mutual(make_party):
    party, sites, strangers = (make_party(name) for name in ("server", "sites", "strangers"))
    server = ServerTls(party.cert, party.key, sites.ca).context
    known = client_of(party)
    known.load_cert_chain(sites.cert, sites.key)
    shake_hands(server, known)
    stranger = client_of(party)
    stranger.load_cert_chain(strangers.cert, strangers.key)
    for client in (client_of(party), stranger):
        with pytest.raises(ssl.SSLError):
            shake_hands(server, client)


def test_a_certificate_is_renewed(make_party, caplog: pytest.LogCaptureFixture):
    before, after = make_party("server"), make_party("renewed")
    tls = ServerTls(before.cert, before.key)
    tls.refresh()
    shake_hands(tls.context, client_of(before))
    # The new certificate with the old key, as one meets it in the middle of a renewal.
    after.cert.replace(before.cert)
    tls.refresh()
    assert "the last good certificate stays in use" in caplog.text
    shake_hands(tls.context, client_of(before))
    after.key.replace(before.key)
    tls.refresh()
    shake_hands(tls.context, client_of(after))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(tls.context, client_of(before))


def test_files_that_cannot_be_used(make_party, tmp_path: Path):
    party, other = make_party("server"), make_party("other")
    for cert, key, ca, reason in (
        (tmp_path / "none", party.key, None, "no usable certificate and key: No such file"),
        (party.cert, other.key, None, "no usable certificate and key: "),
        (party.key, party.cert, None, "no usable certificate and key: "),
        (party.cert, party.key, tmp_path / "none", "none: no certificates: No such file"),
        (party.cert, party.key, party.key, "server.key: no certificates: "),
    ):
        with pytest.raises(InvalidInput) as caught:
            ServerTls(cert, key, ca)
        assert reason in str(caught.value)
        assert "\n" not in str(caught.value)
