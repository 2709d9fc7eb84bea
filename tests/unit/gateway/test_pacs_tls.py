"""DIMSE over TLS: who has no certificate does not get in, and who is silent stops nobody."""

import gc
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from veilseg.gateway.pacs.dimse import Receiver
from veilseg.gateway.pacs.inbox import Inbox
from veilseg.serving.tls import ServerTls

# pynetdicom leaves the line of a failed handshake to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def issued(authority: trustme.CA, folder: Path) -> tuple[Path, Path]:
    leaf = authority.issue_cert("127.0.0.1")
    leaf.cert_chain_pems[0].write_to_path(folder / "cert")
    leaf.private_key_pem.write_to_path(folder / "key")
    return folder / "cert", folder / "key"


@pytest.fixture
def receiver(tmp_path: Path, authority: trustme.CA) -> Iterator[Receiver]:
    authority.cert_pem.write_to_path(tmp_path / "ca")
    (tmp_path / "inbox").mkdir()
    inbox = Inbox(tmp_path / "inbox")
    tls = ServerTls(*issued(authority, tmp_path), tmp_path / "ca")
    with Receiver("VEILSEG", ("127.0.0.1", 0), inbox, lambda _: True, tls=tls) as listening:
        yield listening
    # Here and now, where it is expected.
    gc.collect()


def echoes(receiver: Receiver, authority: trustme.CA, known: trustme.CA | None = None) -> bool:
    """Whether C-ECHO is answered to a scanner; ``known`` issued its certificate."""
    context = ssl.create_default_context(cafile=None)
    authority.configure_trust(context)
    if known is not None:
        known.issue_cert("scanner.example").configure_cert(context)
    scanner = AE("SCANNER")
    scanner.acse_timeout = scanner.connection_timeout = 10
    scanner.add_requested_context(Verification)
    line = scanner.associate(*receiver.address, ae_title="VEILSEG", tls_args=(context, "127.0.0.1"))
    if not line.is_established:
        return False
    try:
        return line.send_c_echo().Status == 0
    finally:
        line.release()


def test_certificates_of_both_sides(receiver, authority):
    assert echoes(receiver, authority, authority)
    assert not echoes(receiver, authority)
    assert not echoes(receiver, authority, trustme.CA())


def test_who_connects_and_is_silent_stops_nobody(receiver, authority):
    with socket.create_connection(receiver.address), socket.create_connection(receiver.address):
        assert echoes(receiver, authority, authority)


def test_a_renewed_certificate_is_taken(receiver, authority, tmp_path):
    renewed = trustme.CA()
    issued(renewed, tmp_path)
    assert not echoes(receiver, authority, authority)
    assert echoes(receiver, renewed, authority)
