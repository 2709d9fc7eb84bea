"""DIMSE, for sites without DICOMweb: series are received by C-STORE, segmentations sent by it."""

import logging
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pydicom
from pydicom import uid
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.presentation import StoragePresentationContexts
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined] # made by a table

from veilseg.errors import InvalidInput, ServerRefused, ServerUnreachable, VeilsegError
from veilseg.gateway.pacs.errors import DUPLICATE, Rejected
from veilseg.gateway.pacs.inbox import Inbox
from veilseg.gateway.pacs.rules import ATTRIBUTES
from veilseg.gateway.pacs.state import Row
from veilseg.imaging.dicom_files import LIBRARY_ERRORS, quiet
from veilseg.serving.http_errors import log_failure
from veilseg.serving.tls import ServerTls

# Statuses of C-STORE (PS3.4, B.2.3).
SUCCESS: Final = 0x0000
OUT_OF_RESOURCES: Final = 0xA700
CANNOT_UNDERSTAND: Final = 0xC000
# The object is stored, with a remark.
REMARKS: Final = range(0xB000, 0xC000)
LONGEST_TITLE: Final = 16
TIMEOUT_S: Final = 60
# What it tells a log are names, addresses and UIDs.
LOGGER: Final = "pynetdicom"
# What the reader of files reads.
SYNTAXES: Final = [
    uid.ExplicitVRLittleEndian,
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.RLELossless,
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLSLossless,
    uid.JPEGLSNearLossless,
    uid.JPEG2000Lossless,
    uid.JPEG2000,
]


@dataclass(frozen=True)
class Peer:
    """Another application, as hospitals write it: ``TITLE@HOST:PORT``."""

    title: str
    host: str
    port: int

    @classmethod
    def of(cls, text: str) -> Self:
        """Read an address. Raises InvalidInput if it is none."""
        title, _, place = text.partition("@")
        host, _, port = place.rpartition(":")
        if not 0 < len(title) <= LONGEST_TITLE or not host or not port.isdecimal():
            raise InvalidInput(f"{text}: give TITLE@HOST:PORT")
        return cls(title, host, int(port))


class Exchange:
    """Received series, and a peer for segmentations: a :class:`~.worker.Archive`.

    Parameters
    ----------
    title : str
        Its own application entity title.
    inbox : Inbox
    peer : Peer
    """

    def __init__(self, title: str, inbox: Inbox, peer: Peer) -> None:
        logging.getLogger(LOGGER).setLevel(logging.CRITICAL + 1)
        self._title = title
        self._inbox = inbox
        self._peer = peer

    def fetch(self, row: Row, folder: Path) -> Path:  # noqa: ARG002 - one interface
        """The series as it was received."""
        return self._inbox.of(row.series)

    def store(self, segmentation: Path) -> None:
        """Send an object by C-STORE, as :class:`~.worker.Archive`."""
        with quiet():
            dataset = pydicom.dcmread(segmentation)
        sender = ApplicationEntity(self._title)
        sender.connection_timeout = sender.acse_timeout = sender.dimse_timeout = TIMEOUT_S
        sender.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
        name = f"{self._peer.title} at {self._peer.host}:{self._peer.port}"
        line = sender.associate(self._peer.host, self._peer.port, ae_title=self._peer.title)
        if not line.is_established:
            if line.acceptor.primitive is not None and not line.accepted_contexts:
                if not line.is_rejected:
                    raise Rejected(f"{name}: takes no segmentations")
                raise ServerRefused(f"{name}: rejects the association")
            raise ServerUnreachable(f"{name}: no association")
        try:
            answer = line.send_c_store(dataset)
        finally:
            line.release()
        if "Status" not in answer:
            raise ServerUnreachable(f"{name}: the association was lost")
        status = int(answer.Status)
        if status & 0xFF00 == OUT_OF_RESOURCES:
            raise ServerRefused(f"{name}: out of resources")
        if status not in (SUCCESS, DUPLICATE) and status not in REMARKS:
            raise Rejected(f"{name}: does not take the segmentation (status {status:04X})")


class _Handshakes:
    """Stands for a context of TLS: shakes hands in the thread of an association.

    In the one thread that accepts connections, whoever connects and is silent would stop all.
    """

    def __init__(self, tls: ServerTls) -> None:
        self._tls = tls

    def wrap_socket(self, line: socket.socket, server_side: bool) -> ssl.SSLSocket:
        # A certificate that was renewed counts from the next connection on.
        self._tls.refresh()
        line.settimeout(TIMEOUT_S)
        return self._tls.context.wrap_socket(
            line, server_side=server_side, do_handshake_on_connect=False
        )


class Receiver:
    """Answers C-STORE and C-ECHO; a context manager, within whose block it listens.

    Parameters
    ----------
    title : str
        That senders have to call it by.
    address : (str, int)
    inbox : Inbox
    wanted : callable
        Whether a series with these attributes is kept; others are confirmed and forgotten.
    callers : tuple of str
        Titles that may call; empty for any.
    most_bytes : int
        Of all that is kept at a time.
    tls : ServerTls, optional
    """

    def __init__(
        self,
        title: str,
        address: tuple[str, int],
        inbox: Inbox,
        wanted: Callable[[Mapping[str, str]], bool],
        callers: tuple[str, ...] = (),
        most_bytes: int = 50 * 1024**3,
        tls: ServerTls | None = None,
    ) -> None:
        logging.getLogger(LOGGER).setLevel(logging.CRITICAL + 1)
        if not 0 < len(title) <= LONGEST_TITLE:
            raise InvalidInput(f"--title {title}: has 1 to {LONGEST_TITLE} characters")
        self._inbox, self._wanted, self._most_bytes = inbox, wanted, most_bytes
        self._address = address
        self._tls: Any = None if tls is None else _Handshakes(tls)
        self._entity = ApplicationEntity(title)
        self._entity.require_called_aet = True
        self._entity.require_calling_aet = list(callers)
        self._entity.network_timeout = TIMEOUT_S
        self._entity.add_supported_context(Verification)
        for context in StoragePresentationContexts:
            self._entity.add_supported_context(str(context.abstract_syntax), SYNTAXES)

    def __enter__(self) -> Self:
        try:
            self._server: Any = self._entity.start_server(
                self._address,
                block=False,
                evt_handlers=[(evt.EVT_C_STORE, self._stored)],
                ssl_context=self._tls,
            )
        except OSError as error:
            host, port = self._address
            raise InvalidInput(f"cannot listen on {host}:{port}: {error.strerror}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    def _stored(self, event: Any) -> int:
        """Keep an object before it is confirmed: the sender may then forget it."""
        try:
            with quiet():
                header = event.dataset
                study, series, instance = (
                    str(header[name].value)
                    for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
                )
                attributes = {name: str(header.get(name) or "") for name in ATTRIBUTES}
            if self._wanted(attributes):
                if self._inbox.size() > self._most_bytes:
                    return OUT_OF_RESOURCES
                content = bytes(event.encoded_dataset())
                self._inbox.keep(study, series, instance, attributes, content)
        except (OSError, VeilsegError) as error:
            log_failure(error)
            return OUT_OF_RESOURCES
        except LIBRARY_ERRORS as error:
            log_failure(error)
            return CANNOT_UNDERSTAND
        return SUCCESS
