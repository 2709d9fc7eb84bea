"""Places and rates, site by site."""

import contextlib

import pytest

from veilseg.serving.admission import Places, RateLimit
from veilseg.serving.errors import TooManyRequests, TooManyWaiting


def test_places_run_out_and_come_back():
    places = Places(total=4, per_site=3)
    with contextlib.ExitStack() as inside:
        for _ in range(3):
            inside.enter_context(places.place("a"))
        with (
            pytest.raises(TooManyWaiting, match="too many requests are waiting") as caught,
            places.place("a", retry_after_s=7),
        ):
            pass
        assert caught.value.retry_after_s == 7
        assert len(places) == 3
        inside.enter_context(places.place("b"))
        with pytest.raises(TooManyWaiting), places.place("b"):
            pass
        # All places are taken, and yet a site that has none gets one.
        inside.enter_context(places.place("c"))
        with pytest.raises(TooManyWaiting), places.place("c"):
            pass
    assert len(places) == 0
    with places.place("a"):
        assert len(places) == 1


def test_a_place_is_given_back_after_an_error():
    places = Places(total=1, per_site=1)
    with pytest.raises(ValueError, match="x"), places.place("a"):
        raise ValueError("x")
    assert len(places) == 0


def test_a_rate_and_its_burst():
    now = [0.0]
    rate = RateLimit(per_minute=30, burst=3, clock=lambda: now[0])
    for _ in range(3):
        rate.take("a")
    with pytest.raises(TooManyRequests, match="too many requests of this site") as caught:
        rate.take("a")
    assert caught.value.retry_after_s == 2
    rate.take("b")
    now[0] = 1.9
    with pytest.raises(TooManyRequests):
        rate.take("a")
    # Being refused costs nothing: the next is due as it was.
    now[0] = 2.0
    rate.take("a")
    now[0] = 1000.0
    for _ in range(3):
        rate.take("a")
    with pytest.raises(TooManyRequests):
        rate.take("a")


def test_no_rate():
    rate = RateLimit(per_minute=0, burst=1)
    for _ in range(1000):
        rate.take("a")
