"""The server's side of TLS."""

import logging
import ssl
from pathlib import Path

from veilseg.errors import InvalidInput

logger = logging.getLogger(__name__)


class ServerTls:
    """TLS 1.2 or newer with the server's certificate, which may be renewed while it runs.

    Parameters
    ----------
    cert, key : Path
        Certificate chain and unencrypted key, PEM.
    client_ca : Path, optional
        Who vouches for clients. With it, a client without a certificate does not get in.

    Attributes
    ----------
    context : ssl.SSLContext

    Raises
    ------
    InvalidInput
        If a file cannot be read or holds nothing usable.
    """

    def __init__(self, cert: Path, key: Path, client_ca: Path | None = None) -> None:
        self._cert, self._key = cert, key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # OpenSSL's own minimum is the distribution's choice.
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._seen = self._fingerprint()
        self._load(self.context)
        if client_ca is not None:
            try:
                self.context.load_verify_locations(client_ca)
            except OSError as error:
                raise InvalidInput(f"{client_ca}: no certificates: {_reason(error)}") from error
            self.context.verify_mode = ssl.CERT_REQUIRED

    def refresh(self) -> None:
        """Take a renewed certificate for the connections to come; one that is broken is not."""
        seen = self._fingerprint()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            # Tried aside: a context that took the certificate and then not the key serves nobody.
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            self._load(self.context)
        except InvalidInput as error:
            logger.error("TLS: the last good certificate stays in use: %s", error)
        else:
            logger.info("TLS: certificate read anew")

    def _load(self, context: ssl.SSLContext) -> None:
        try:
            # An encrypted key would make OpenSSL ask on the terminal.
            context.load_cert_chain(self._cert, self._key, password="")
        except OSError as error:
            raise InvalidInput(
                f"{self._cert}, {self._key}: no usable certificate and key: {_reason(error)}"
            ) from error

    def _fingerprint(self) -> tuple[tuple[int, int] | None, ...]:
        return tuple(_times(path) for path in (self._cert, self._key))


def _times(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _reason(error: OSError) -> str:
    return error.strerror or getattr(error, "reason", None) or type(error).__name__
