"""What every client half says of itself."""

import inspect

import pytest

from veilseg.schemes.deformation.client import DeformationClient
from veilseg.schemes.encoding.client import EncodingClient
from veilseg.schemes.mixup import mixing
from veilseg.schemes.mixup.client import MixupClient
from veilseg.schemes.noise import adding
from veilseg.schemes.noise.client import NoiseClient
from veilseg.schemes.plain.client import PlainClient
from veilseg.schemes.privacy_net.client import PrivacyNetClient

HALVES = (
    *(PlainClient, MixupClient, EncodingClient),
    *(NoiseClient, DeformationClient, PrivacyNetClient),
)


@pytest.mark.parametrize(
    "function",
    [
        *(getattr(half, verb) for half in HALVES for verb in ("protect", "recover")),
        adding.with_noise,
        mixing.mix,
        mixing.unmix_algebraically,
    ],
    ids=lambda function: function.__qualname__,
)
def test_client_halves_say_what_leaks(function):
    assert "\nLeaks\n-----\n" in inspect.getdoc(function)
