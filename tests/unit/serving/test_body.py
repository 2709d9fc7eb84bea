import gzip
import zlib

import pytest

from veilseg.serving.body import BoundedBody, compressed
from veilseg.serving.errors import BodyTooLarge, BodyUnreadable, UnknownEncoding

ENCODERS = {"identity": bytes, "gzip": gzip.compress, "deflate": zlib.compress}


def fed(body: BoundedBody, content: bytes, chunk: int = 7) -> bytes:
    for start in range(0, len(content), chunk):
        body.feed(content[start : start + chunk])
    return bytes(body.finish())


@pytest.mark.parametrize("encoding", ENCODERS)
@pytest.mark.parametrize("size", [0, 1, 99, 100])
def test_bodies_up_to_the_limit_pass(encoding: str, size: int):
    content = bytes(range(size))
    sent = ENCODERS[encoding](content)
    assert fed(BoundedBody(max(100, len(sent)), encoding.upper()), sent) == content


def test_a_declared_length_is_refused_unread():
    with pytest.raises(BodyTooLarge, match="more than the 100 bytes"):
        BoundedBody(100, None, declared_bytes=101)


def test_what_arrives_is_counted():
    body = BoundedBody(100)
    body.feed(bytes(100))
    with pytest.raises(BodyTooLarge, match="more than the 100 bytes"):
        body.feed(b"x")


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_bomb_is_stopped_at_the_limit(encoding: str):
    bomb = ENCODERS[encoding](bytes(50_000_000))
    body = BoundedBody(100_000, encoding)
    with pytest.raises(BodyTooLarge, match="more than the 100000 bytes"):
        fed(body, bomb, chunk=1024)
    assert len(body._content) <= 100_001


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_damaged_data(encoding: str):
    sent = ENCODERS[encoding](b"proxy" * 10)
    with pytest.raises(BodyUnreadable, match="ends early"):
        fed(BoundedBody(1000, encoding), sent[:-3])
    with pytest.raises(BodyUnreadable, match="bytes behind"):
        fed(BoundedBody(1000, encoding), sent + b"more")
    with pytest.raises(BodyUnreadable, match="is damaged"):
        fed(BoundedBody(1000, encoding), b"proxy")


def test_unknown_encodings():
    with pytest.raises(UnknownEncoding, match="use gzip, deflate or identity"):
        BoundedBody(100, "br")


@pytest.mark.parametrize(
    ("asked", "encoding"),
    [
        (None, None),
        ("identity", None),
        ("gzip;q=0", None),
        ("gzip", "gzip"),
        ("br, deflate;q=0.5", "deflate"),
    ],
)
def test_answers_are_compressed_only_if_asked(asked: str | None, encoding: str | None):
    content, found = compressed(b"answer" * 50, asked)
    assert found == encoding
    expand = {"gzip": gzip.decompress, "deflate": zlib.decompress, None: bytes}[encoding]
    assert expand(content) == b"answer" * 50
