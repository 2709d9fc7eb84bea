"""The client half of ``plain``: nothing is protected and nothing has to be undone."""

import pickle

import numpy as np
import pytest

from veilseg.errors import WrongUsage
from veilseg.payload import Answer
from veilseg.schemes.plain.client import PlainClient


def test_what_goes_in_goes_out():
    image = np.random.default_rng(0).random((1, 4, 3, 2), dtype=np.float32)
    client = PlainClient()
    proxy, receipt = client.protect(image, "anna")
    np.testing.assert_array_equal(proxy.array, image)
    answer = np.random.default_rng(1).random((3, 4, 3, 2), dtype=np.float32)
    np.testing.assert_array_equal(client.recover(Answer(answer), receipt), answer)


def test_there_is_nothing_to_average():
    with pytest.raises(WrongUsage, match="--mixtures: plain mixes nothing"):
        PlainClient().protect(np.zeros((1, 2, 2, 2), dtype=np.float32), "anna", 1)


def test_the_receipt_has_no_serialiser():
    _, receipt = PlainClient().protect(np.zeros((1, 2, 2, 2), dtype=np.float32), "anna")
    assert "redacted" in repr(receipt)
    with pytest.raises(TypeError, match="never leaves the site"):
        pickle.dumps(receipt)
