"""A site with gateways, and a browser to look at their page."""

from collections.abc import Iterator
from pathlib import Path

import dicoms
import numpy as np
import phantoms
import pytest
from browsing import AFFINE, FLAT, NAME, SHAPE, chromium
from processes import GatewayProcess
from servers import OracleServer

from veilseg.access import token_file
from veilseg.bundle import open_client_half
from veilseg.vault.vault import Vault


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, mixup_bundle: Path) -> Path:
    """A site with scans and a vault."""
    place = tmp_path_factory.mktemp("site")
    Vault.create(place / "vault", phantoms.bundle_id(mixup_bundle))
    raw = phantoms.raw_image(phantoms.truth(SHAPE))
    phantoms.write_nifti(place / NAME, raw)
    phantoms.write_nifti(place / "other.nii.gz", phantoms.raw_image(phantoms.truth(SHAPE), 1))
    dicoms.write_series(place / "study", raw, AFFINE)
    grey = (phantoms.raw_image(phantoms.truth((14, 12))) // 5).astype(np.uint8)
    phantoms.write_png(place / "flat.png", grey)
    (place / "notes.txt").write_text("no scan")
    return place


@pytest.fixture(scope="module")
def oracle(mixup_bundle: Path) -> Iterator[OracleServer]:
    with OracleServer(open_client_half(mixup_bundle).manifest) as server:
        server.behaviour = phantoms.nearest_centre
        yield server


@pytest.fixture(scope="module")
def private(place: Path, oracle: OracleServer, mixup_bundle: Path) -> Iterator[GatewayProcess]:
    """A gateway before a server."""
    options = ["--bundle", mixup_bundle, "--vault", place / "vault", "--server", oracle.url]
    with GatewayProcess(place / "private.log", *options) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def tokens(place: Path) -> tuple[str, str]:
    file = place / "tokens.json"
    ward, other = (token_file.add(file, name, ["infer"], 1)[0] for name in ("ward", "other"))
    return ward, other


@pytest.fixture(scope="module")
def guarded(
    place: Path,
    tokens: tuple[str, str],
    plain_bundle: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[GatewayProcess]:
    """A gateway that asks for a token, and from which nothing leaves."""
    folder = tmp_path_factory.mktemp("bundles") / "flat"
    options = {"name": FLAT, "spatial_dims": 2, "unit": "pixel", "raw_scale": 200}
    flat = phantoms.make_bundle(folder, "plain", **options)
    bundles = ["--bundle", plain_bundle, "--bundle", flat, "--local"]
    with GatewayProcess(
        place / "guarded.log", *bundles, "--tokens", place / "tokens.json"
    ) as gateway:
        yield gateway


@pytest.fixture
def by_command(tmp_path: Path, place: Path, oracle: OracleServer, mixup_bundle: Path, veilseg):
    """What ``veilseg segment`` makes of a scan, with the same vault and server."""

    def run(image: Path, subject: str) -> np.ndarray:
        out = tmp_path / "command.nii.gz"
        options = ["--server", oracle.url, "--bundle", mixup_bundle, "--vault", place / "vault"]
        ended = veilseg("segment", image, *options, "--subject", subject, "-o", out)
        assert ended.code == 0, ended.err
        return phantoms.read_labels(out)

    return run
