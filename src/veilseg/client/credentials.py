"""What a site shows a server, and by which authority it knows the server."""

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import httpx

from veilseg.errors import InvalidInput
from veilseg.files import mode_open_to_others

TOKEN_VARIABLE: Final = "VEILSEG_TOKEN"
LONGEST_TOKEN: Final = 4096


@dataclass(frozen=True)
class Credentials:
    """Token and certificates. Its ``repr`` holds no secret.

    Attributes
    ----------
    token : str
        Bearer token; empty for none.
    ca : Path, optional
        Certificates (PEM) of the authorities that may vouch for the server, instead of the
        system's.
    client_cert, client_key : Path, optional
        Certificate and key (PEM) by which the server knows the site.
    """

    token: str = ""
    ca: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None

    def __repr__(self) -> str:
        token = "…" if self.token else ""
        return f"Credentials(token={token!r}, ca={self.ca}, client_cert={self.client_cert})"

    @classmethod
    def read(
        cls,
        token_file: Path | None = None,
        ca: Path | None = None,
        client_cert: Path | None = None,
        client_key: Path | None = None,
    ) -> Self:
        """Take the token from a private file or, without one, from :data:`TOKEN_VARIABLE`.

        Never from the command line, which every user of a machine can read.

        Raises
        ------
        InvalidInput
            If the file cannot be read, is open to others, or holds no token.
        """
        if token_file is None:
            return cls(
                _usable(TOKEN_VARIABLE, os.environ.get(TOKEN_VARIABLE, "")),
                *(ca, client_cert, client_key),
            )
        try:
            mode = mode_open_to_others(token_file)
            text = token_file.read_text(encoding="ascii")
        except OSError as error:
            raise InvalidInput(f"{token_file}: cannot be read: {error.strerror}") from error
        except UnicodeDecodeError:
            raise InvalidInput(f"{token_file}: holds no token") from None
        if mode is not None:
            raise InvalidInput(f"{token_file}: open to others (mode {mode:o}): chmod 600 it")
        if not text.strip():
            raise InvalidInput(f"{token_file}: holds no token")
        return cls(_usable(str(token_file), text), ca, client_cert, client_key)

    @property
    def headers(self) -> dict[str, str]:
        """The HTTP header that carries the token."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def tls(self) -> ssl.SSLContext:
        """TLS 1.2 or newer, with the server's name and certificate checked.

        Raises
        ------
        InvalidInput
            If a file is missing or holds no usable certificate or key.
        """
        if self.client_key is not None and self.client_cert is None:
            raise InvalidInput("--client-key: needs --client-cert")
        try:
            # httpx adds what SSL_CERT_FILE and SSL_CERT_DIR name.
            context = (
                httpx.create_ssl_context()
                if self.ca is None
                else ssl.create_default_context(cafile=self.ca)
            )
        except OSError as error:
            raise InvalidInput(f"{self.ca}: no certificates: {_reason(error)}") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.client_cert is not None:
            try:
                # An encrypted key would make OpenSSL ask on the terminal.
                context.load_cert_chain(self.client_cert, self.client_key, password="")
            except OSError as error:
                raise InvalidInput(
                    f"{self.client_cert}: no usable certificate with its key: {_reason(error)}"
                ) from error
        return context


def _usable(source: str, text: str) -> str:
    token = text.strip()
    # A line break would end the header that carries it.
    if len(token) > LONGEST_TOKEN or not all("!" <= c <= "~" for c in token):
        raise InvalidInput(f"{source}: holds no token: spaces or more than one line")
    return token


def _reason(error: OSError) -> str:
    return error.strerror or getattr(error, "reason", None) or type(error).__name__
