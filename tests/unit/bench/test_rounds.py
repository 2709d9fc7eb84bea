"""Turns, ratios and quantiles."""

import numpy as np
import pytest

from veilseg.bench.rounds import FEWEST_ROUNDS, alternating, percentile, ratio, significant


class Clock:
    """Goes on when somebody sleeps or works."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


def test_contenders_take_turns_and_the_order_turns():
    clock, order = Clock(), []

    def works(name: str, seconds: float):
        def turn() -> float:
            order.append(name)
            clock.pass_by(seconds)
            return seconds

        return turn

    taken = alternating(
        {"a": works("a", 1.0), "b": works("b", 2.0)},
        12.0,
        pause_s=0.5,
        clock=clock,
        sleep=clock.pass_by,
    )
    # A round takes four seconds: one begins at 0, 4 and 8, none at 12.
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert taken == {"a": [1.0] * 3, "b": [2.0] * 3}


def test_a_budget_of_nothing_still_gives_a_median():
    taken = alternating({"a": lambda: 1}, 0.0, pause_s=0.0)
    assert len(taken["a"]) == FEWEST_ROUNDS


def test_ratio_is_of_pairs_and_its_interval_holds_it():
    found = ratio([1.0, 10.0, 2.0], [1.2, 11.0, 2.2])
    assert found["each"] == [1.2, 1.1, 1.1]
    low, high = found["interval"]
    assert low <= found["median"] == 1.1 <= high


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.95, 95), (1.0, 100), (0.0, 1)])
def test_percentile(share: float, expected: int):
    assert percentile(np.random.default_rng(0).permutation(np.arange(1, 101)), share) == expected


def test_four_digits_count_in_any_unit():
    assert significant(0.000123456) == 0.0001235
    assert significant(123456.0) == 123500.0
