"""What every client half says of itself."""

import inspect

import pytest

from veilseg.schemes.mixup import mixing
from veilseg.schemes.mixup.client import MixupClient
from veilseg.schemes.plain.client import PlainClient


@pytest.mark.parametrize(
    "function",
    [
        *(
            getattr(half, verb)
            for half in (PlainClient, MixupClient)
            for verb in ("protect", "recover")
        ),
        mixing.mix,
        mixing.unmix_algebraically,
    ],
    ids=lambda function: function.__qualname__,
)
def test_client_halves_say_what_leaks(function):
    assert "\nLeaks\n-----\n" in inspect.getdoc(function)
