"""Shards of protected pairs, byte for byte."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veilseg.bundle import ServerManifest, TensorSpec
from veilseg.contribution import PairFormat, ProtectedPair, decode_shard, encode_shard
from veilseg.errors import InvalidShard

FORMAT = PairFormat("tiny", "c" * 64, (2, 3), (4,), {"scheme": "encoding"})


@settings(max_examples=50, derandomize=True)
@given(st.integers(1, 5), st.integers(0, 2**32))
def test_pairs_come_back_as_they_were(count, seed):
    # Any sixteen bits that are a finite number.
    bits = np.random.default_rng(seed).integers(0, 2**16, count * 10, dtype=np.uint16)
    values = np.nan_to_num(bits.view(np.float16), nan=1.0, posinf=2.0, neginf=-2.0)
    proxies, answers = values[: count * 6].reshape(-1, 2, 3), values[count * 6 :].reshape(-1, 4)
    pairs = [ProtectedPair(*pair) for pair in zip(proxies, answers, strict=True)]
    content = encode_shard(pairs)
    assert content == encode_shard(pairs)
    found = decode_shard(content, FORMAT)
    assert found[0].tobytes() == proxies.tobytes()
    assert found[1].tobytes() == answers.tobytes()


@settings(max_examples=200, derandomize=True)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_shard_or_refused(content):
    with pytest.raises(InvalidShard, match="shard: "):
        decode_shard(content, FORMAT)


@settings(max_examples=200, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_shard_with_a_changed_byte_is_read_or_refused(position, change):
    pair = ProtectedPair(np.ones((2, 3), np.float16), np.ones(4, np.float16))
    content = bytearray(encode_shard([pair]))
    content[position % len(content)] ^= change
    try:
        proxies, answers = decode_shard(bytes(content), FORMAT)
    except InvalidShard:
        return
    assert (proxies.shape, answers.shape) == ((1, 2, 3), (1, 4))


def test_size_of_shards():
    assert FORMAT.pair_bytes == 2 * (6 + 4)
    assert FORMAT.pairs_per_shard == 2**23 // 20
    large = PairFormat("large", "c" * 64, (2**24,), (4,), {})
    assert large.pairs_per_shard == 1


def test_format_as_document_and_back():
    assert PairFormat.from_json(FORMAT.to_json()) == FORMAT


def test_scheme_without_pairs():
    tensor = TensorSpec("proxy", "FP16", (1, 1))
    with pytest.raises(InvalidShard, match="raw: its scheme has no protected pairs"):
        PairFormat.of(ServerManifest("raw", "1", tensor, tensor))
