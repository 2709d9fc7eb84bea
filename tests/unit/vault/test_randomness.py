"""Randomness from key and context, and who may be mixed into whom."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veilseg.errors import InvalidVault
from veilseg.vault.vault import LabelledReference, Vault

KEY = bytes(range(32))
PARTS = st.lists(st.text(max_size=6) | st.binary(max_size=6), min_size=1, max_size=4)


def stream(key: bytes, *context: str | bytes) -> list[float]:
    with Vault.in_memory(key) as vault:
        return vault.generator(*context).random(4).tolist()


def as_bytes(context: list[str | bytes]) -> list[bytes]:
    return [part.encode() if isinstance(part, str) else part for part in context]


def test_key_and_context_fix_the_stream():
    first = stream(KEY, "mixup", b"content")
    assert first == stream(KEY, "mixup", b"content")
    assert first != stream(KEY[::-1], "mixup", b"content")
    assert first != stream(KEY, "mixup", b"Content")


def test_the_stream_is_pinned():
    # Another stream means other proxies of the same images: the ledger would refuse them all.
    assert stream(KEY, "mixup", b"content") == [
        0.9775736326534353,
        0.48278345184365856,
        0.6740742885301148,
        0.3698165195023113,
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ab", "c"), ("a", "bc")),
        (("abc",), ("a", "b", "c")),
        (("a",), ("a", "")),
        (("a\x00b",), ("a", "b")),
        (("a", "b"), ("b", "a")),
    ],
)
def test_contexts_do_not_run_together(one: tuple[str, ...], other: tuple[str, ...]):
    assert stream(KEY, *one) != stream(KEY, *other)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(PARTS, PARTS)
def test_streams_are_equal_only_for_equal_contexts(one: list, other: list):
    assert (stream(KEY, *one) == stream(KEY, *other)) == (as_bytes(one) == as_bytes(other))


def test_streams_look_independent():
    # Uniform means of 400 streams: standard error 0.2887 / 20 = 0.0144; five of those allowed.
    firsts = np.array([stream(KEY, str(number))[0] for number in range(400)])
    assert abs(firsts.mean() - 0.5) < 5 * 0.0144
    # The same streams under another key: correlation 0 within five times 1 / sqrt(400).
    others = np.array([stream(KEY[::-1], str(number))[0] for number in range(400)])
    assert abs(np.corrcoef(firsts, others)[0, 1]) < 5 / 20


PEOPLE = st.sampled_from(["anna", "bert", "carl"])


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.lists(PEOPLE, min_size=1, max_size=6), PEOPLE, st.integers(0, 2**32))
def test_nobody_is_mixed_with_themselves(patients: list[str], subject: str, seed: int):
    references = [
        LabelledReference(
            patient,
            np.full((1, 1, 1, 1), number, dtype=np.float32),
            np.zeros((1, 1, 1), dtype=np.uint8),
        )
        for number, patient in enumerate(patients)
    ]
    with Vault.in_memory(KEY, references) as vault:
        rng = np.random.default_rng(seed)
        if set(patients) == {subject}:
            with pytest.raises(InvalidVault, match="all are of the patient to be segmented"):
                vault.draw_reference(rng, subject)
            return
        for _ in range(5):
            drawn = vault.draw_reference(rng, subject)
            assert drawn is not None
            assert patients[int(drawn.image.item())] != subject


def test_every_other_reference_is_drawn(make_references: Callable[..., list[LabelledReference]]):
    with Vault.in_memory(KEY, make_references("anna", "bert", "anna", "carl")) as vault:
        rng = np.random.default_rng(0)
        drawn = {int(vault.draw_reference(rng, "bert").labels[0, 0, 0]) for _ in range(60)}
    assert drawn == {0, 2, 3}


def test_a_vault_without_references_has_none_to_give():
    with Vault.in_memory(KEY) as vault:
        assert vault.draw_reference(np.random.default_rng(0), "anna") is None
