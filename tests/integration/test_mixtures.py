"""``segment --mixtures K`` and ``--uncertainty``: averaged, priced, entered in the ledger."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import phantoms
import pytest
from servers import OracleServer

OUT = "out.nii.gz"


@pytest.fixture
def segment(veilseg: Callable, image: Path, tmp_path: Path) -> Callable:
    return lambda *arguments: veilseg("segment", image, *arguments, "-o", tmp_path / OUT)


def test_mixtures_are_sent_priced_and_remembered(
    oracle: OracleServer, remote: list[object], image: Path, segment: Callable
):
    oracle.behaviour = phantoms.nearest_centre
    ended = segment(*remote, "--mixtures", 3)
    assert ended.code == 0
    (line,) = ended.errors
    assert line.startswith(f"veilseg: {image}: warning: 3 different proxies of this subject")
    assert "at most 1/4 of the patient's variance stays hidden instead of 1/2" in line
    # Two tiles of each mixture, all different, counted in one.
    assert len({tile.tobytes() for tile in oracle.tiles}) == 6
    assert ended.err.splitlines()[-1] == "segmenting: 6/6 scan.nii.gz (1 of 1)"
    # The same again, and a part of the same, are retries.
    for count in (3, 1):
        assert segment(*remote, "--mixtures", count).code == 0
    assert len(oracle.tiles) == 14
    assert len({tile.tobytes() for tile in oracle.tiles}) == 6
    ended = segment(*remote, "--mixtures", 4)
    assert ended.code == 3
    (line,) = ended.errors
    assert "a different proxy of this subject was sent before" in line
    assert len(oracle.tiles) == 14


def test_more_mixtures_than_before_are_a_repeat(
    oracle: OracleServer, remote: list[object], segment: Callable
):
    oracle.behaviour = phantoms.nearest_centre
    assert segment(*remote).code == 0
    assert segment(*remote, "--mixtures", 2).code == 3
    assert len(oracle.tiles) == 2
    ended = segment(*remote, "--mixtures", 2, "--allow-repeat")
    assert ended.code == 0
    assert len(ended.errors) == 1
    # The first of the two is the one that was sent before.
    first, second = (tile.tobytes() for tile in oracle.tiles[:2])
    assert [tile.tobytes() for tile in oracle.tiles[2:4]] == [first, second]


def test_what_other_images_showed_is_added(
    oracle: OracleServer, remote: list[object], veilseg: Callable, tmp_path: Path
):
    oracle.behaviour = phantoms.nearest_centre
    for seed in (1, 2):
        raw = phantoms.raw_image(phantoms.truth(), seed)
        scan = phantoms.write_nifti(tmp_path / f"{seed}.nii", raw)
        ended = veilseg(
            "segment", scan, *remote, "--subject", "anna", "--mixtures", 2, "--allow-repeat",
            "-o", tmp_path / OUT,
        )  # fmt: skip
        assert ended.code == 0
    assert "this server now has 4 different proxies of this subject" in ended.errors[1]


def test_nothing_leaves_nothing_costs(local: list[object], segment: Callable, tmp_path: Path):
    ended = segment(*local, "--mixtures", 2)
    assert (ended.code, ended.errors) == (0, [])


def test_usage(
    expect: Callable, local: list[object], plain_bundle: Path, image: Path, tmp_path: Path
):
    proxy, entropy = tmp_path / "proxy.nii", tmp_path / "entropy.nii.gz"
    plain = ["--bundle", plain_bundle, "--local"]
    for arguments, reason in (
        ([*plain, "--mixtures", 2], "--mixtures: plain mixes nothing"),
        ([*local, "--mixtures", 2, "--save-proxy", proxy], "--save-proxy: writes one proxy"),
        ([*local, image, "--uncertainty", entropy], "--uncertainty: takes one image"),
        (
            [*local, "--uncertainty", tmp_path / "x.png"],
            "--uncertainty must end in .nii.gz or .nii",
        ),
    ):
        assert reason in expect(2, image, *arguments)
    same = [*local, "--uncertainty", tmp_path / OUT]
    assert "would overwrite each other" in expect(3, image, *same, out=tmp_path / OUT)


@pytest.mark.parametrize("scheme", ["plain", "mixup"])
def test_uncertainty_is_a_map_on_the_images_own_grid(
    request: pytest.FixtureRequest,
    scheme: str,
    segment: Callable,
    labels: np.ndarray,
    tmp_path: Path,
):
    bundle = request.getfixturevalue(f"{scheme}_bundle")
    entropy = tmp_path / "entropy.nii.gz"
    ended = segment("--bundle", bundle, "--local", "--uncertainty", entropy)
    assert (ended.code, ended.errors) == (0, [])
    written = nib.load(entropy)
    np.testing.assert_array_equal(written.affine, phantoms.TURNED)
    assert written.get_data_dtype() == np.float32
    values = np.asarray(written.dataobj)
    assert values.shape == labels.shape
    assert 0 <= values.min() <= values.max() <= 1
    # The margin around the phantom was cropped away.
    assert values[0].max() == values[:, -3:].max() == 0
    # The phantoms' server is all but sure of an image and at a loss with a mixture.
    assert (values.max() < 0.1) == (scheme == "plain")
