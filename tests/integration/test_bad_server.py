"""``veilseg segment`` where the server fails or is another: one line, code 4, nothing is left."""

import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import phantoms
import pytest
from servers import OracleServer

from veilseg.vault.vault import Vault


def test_no_server(expect: Callable, mixup_bundle: Path, vault: Path, image: Path):
    with socket.socket() as bound:
        # Bound but not listening: nobody else takes the port, and nobody answers.
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        options = ["--bundle", mixup_bundle, "--vault", vault, "--server", url]
        assert expect(4, image, *options) == f"{url}: [Errno 111] Connection refused"
    with Vault.open(vault, None) as opened:
        # Nothing was sent, so that another image of the subject is no repeat.
        assert opened.forget("scan") == 0


def test_a_url_that_is_none(expect: Callable, mixup_bundle: Path, vault: Path, image: Path):
    options = ["--bundle", mixup_bundle, "--vault", vault, "--server", "localhost:8000"]
    assert "write it as http://HOST:PORT" in expect(3, image, *options)


def test_another_model(expect: Callable, oracle: OracleServer, image: Path, plain_bundle: Path):
    options = ["--bundle", plain_bundle, "--server", oracle.url]
    line = expect(4, image, *options)
    assert line == f"{oracle.url}: no model phantom-plain in version 1"


def test_a_model_of_another_bundle(
    expect: Callable, remote: list[object], oracle: OracleServer, image: Path
):
    oracle.stated_id = "d" * 64
    assert "is of bundle 'dddddddddddd', this site holds" in expect(5, image, *remote)
    assert oracle.tiles == []


def test_the_server_hangs_up(
    expect: Callable,
    remote: list[object],
    oracle: OracleServer,
    image: Path,
    no_pauses: list[float],
):
    line = expect(4, image, *remote)
    assert line.startswith(f"{image}: {oracle.url}: ")
    # The first attempt and six retries, for it has answered before; all with the very same bytes.
    assert len(oracle.tiles) == 7
    assert len({tile.tobytes() for tile in oracle.tiles}) == 1
    assert len(no_pauses) == 6


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda answer: answer[:2], "the answer is FP16 [1, 2, 16, 16, 16], not FP16 [1, 3,"),
        (lambda answer: answer[..., :8], "[1, 3, 16, 16, 8], not FP16 [1, 3,"),
        (lambda answer: answer * np.nan, "the answer holds NaN or infinity"),
    ],
)
def test_what_is_no_answer(
    expect: Callable,
    remote: list[object],
    oracle: OracleServer,
    image: Path,
    spoil: Callable,
    reason: str,
):
    oracle.behaviour = lambda tile: spoil(phantoms.nearest_centre(tile))
    line = expect(4, image, *remote)
    assert line.startswith(f"{image}: {oracle.url}: ")
    assert reason in line


def test_a_network_that_gives_nan(expect: Callable, image: Path, tmp_path: Path):
    bundle = phantoms.make_bundle(tmp_path / "nan", "plain", poison=float("nan"))
    line = expect(4, image, "--bundle", bundle, "--local")
    assert line.startswith(f"{image}: answer of shape (3, 16, 16, 16); expected finite values")
