"""Values of a recipe as typed."""

import pytest

from veilseg.errors import WrongUsage
from veilseg.training.recipe import parse_range


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.4:0.6", (0.4, 0.6)), ("0.5:0.5", (0.5, 0.5)), ("1e-3:.999", (0.001, 0.999))],
)
def test_range(text, expected):
    assert parse_range(text) == expected


@pytest.mark.parametrize("text", ["", "0.5", "0.4-0.6", "0.4:", "0.1:0.2:0.3", "a:b", "0,4:0,6"])
def test_what_is_no_range_is_refused(text):
    with pytest.raises(WrongUsage, match=r"give LOW:HIGH, as 0\.4:0\.6") as caught:
        parse_range(text)
    assert str(caught.value).startswith(f"--coefficients {text}: ")


@pytest.mark.parametrize("text", ["0:0.5", "0.5:1", "0.6:0.4", "-0.2:0.4", "nan:0.5", "0.5:inf"])
def test_range_that_cannot_mix_is_refused(text):
    with pytest.raises(WrongUsage, match="0 < LOW ≤ HIGH < 1") as caught:
        parse_range(text)
    assert text in str(caught.value)
