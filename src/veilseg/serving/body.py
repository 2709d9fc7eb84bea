"""Request bodies within limits, decompressed as they arrive."""

import zlib
from collections.abc import AsyncIterable, Mapping
from typing import Final

from veilseg.serving.errors import BodyTooLarge, BodyUnreadable, UnknownEncoding

# zlib's window argument also selects the wrapper: 31 is gzip, 15 the zlib format, which HTTP
# calls deflate.
_WINDOW_BITS: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}
# Of a level's time and size the fastest is worth it on a local network, the others are not.
_LEVEL: Final = 1
# A weight of zero in Accept-Encoding means "anything but this"; it has up to three decimals.
_REFUSALS: Final = frozenset({"q=0", "q=0.0", "q=0.00", "q=0.000"})


class BoundedBody:
    """Collects a body and stops at the limit, before the memory is taken.

    Parameters
    ----------
    limit_bytes : int
        For what arrives and, separately, for what it decompresses to.
    encoding : str, optional
        The ``Content-Encoding`` header.
    declared_bytes : int, optional
        The ``Content-Length`` header, so that a body too large is refused unread.

    Raises
    ------
    BodyTooLarge
        If more is declared, arrives, or comes out of decompression.
    UnknownEncoding
        If the encoding is none of gzip, deflate and identity.
    """

    def __init__(
        self, limit_bytes: int, encoding: str | None = None, declared_bytes: int | None = None
    ) -> None:
        self._limit = limit_bytes
        self._received = 0
        self._content = bytearray()
        name = (encoding or "identity").strip().lower()
        if name != "identity" and name not in _WINDOW_BITS:
            raise UnknownEncoding("content-encoding: use gzip, deflate or identity")
        self._inflate = zlib.decompressobj(_WINDOW_BITS[name]) if name in _WINDOW_BITS else None
        self._require_within(declared_bytes or 0)

    def feed(self, chunk: bytes) -> None:
        """Take what arrived. Raises :class:`BodyTooLarge` or :class:`BodyUnreadable`."""
        self._received += len(chunk)
        self._require_within(self._received)
        if self._inflate is None:
            self._content += chunk
            return
        # One byte beyond the room tells a bomb from a body that fits exactly. Zero would mean
        # no bound to zlib; room is never negative, so that the bound is at least one.
        room = self._limit - len(self._content)
        try:
            self._content += self._inflate.decompress(chunk, room + 1)
        except zlib.error as error:
            raise BodyUnreadable("body: the compressed data is damaged") from error
        self._require_within(len(self._content))
        if self._inflate.unused_data:
            raise BodyUnreadable("body: there are bytes behind the compressed data")

    def finish(self) -> bytearray:
        """The whole body. Raises :class:`BodyUnreadable` if compressed data ended early."""
        if self._inflate is not None and not self._inflate.eof:
            raise BodyUnreadable("body: the compressed data ends early")
        return self._content

    def _require_within(self, size: int) -> None:
        if size > self._limit:
            raise BodyTooLarge(f"body: more than the {self._limit} bytes any model here takes")


async def read_bounded(
    chunks: AsyncIterable[bytes], headers: Mapping[str, str], limit_bytes: int
) -> bytearray:
    """A whole body, as it arrives with its headers. Raises as :class:`BoundedBody`."""
    declared = headers.get("content-length", "")
    declared_bytes = int(declared) if declared.isdecimal() else None
    body = BoundedBody(limit_bytes, headers.get("content-encoding"), declared_bytes)
    async for chunk in chunks:
        body.feed(chunk)
    return body.finish()


def compressed(content: bytes, accept_encoding: str | None) -> tuple[bytes, str | None]:
    """Compress an answer the way the client asked for.

    Parameters
    ----------
    content : bytes
    accept_encoding : str, optional
        The header. Without gzip or deflate in it the content stays as it is.

    Returns
    -------
    (bytes, str or None)
        Content, and its encoding.
    """
    for choice in (accept_encoding or "").lower().split(","):
        name, _, weight = choice.partition(";")
        if name.strip() in ("gzip", "deflate") and weight.strip() not in _REFUSALS:
            deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW_BITS[name.strip()])
            return deflate.compress(content) + deflate.flush(), name.strip()
    return content, None
