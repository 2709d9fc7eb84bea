"""Looking on while an image takes the main path."""

from pathlib import Path

import numpy as np
import phantoms
import pytest

from veilseg.bundle import ClientManifest, open_client_half
from veilseg.client.pipeline import segment
from veilseg.client.watching import Stage, Unwatched
from veilseg.imaging.preprocessing import Restoration
from veilseg.imaging.volume import Volume
from veilseg.payload import Answer, Proxy
from veilseg.schemes.plain.client import PlainClient


class Notes(Unwatched):
    """Writes down what it is told; ends the image at a stage."""

    def __init__(self, until: Stage | None = None) -> None:
        self.seen: list[object] = []
        self.until = until

    def began(self, stage: Stage) -> None:
        self.seen.append(stage)
        if stage == self.until:
            raise KeyboardInterrupt

    def read(self, volume: Volume) -> None:
        self.seen.append(volume)

    def answered(self, proxy: Proxy, restoration: Restoration, answer: Answer) -> None:
        self.seen += [proxy, restoration, answer]


class Far:
    """A processor that counts."""

    bytes_sent = bytes_received = 100  # of an image before

    def __call__(self, tile: np.ndarray) -> np.ndarray:
        self.bytes_sent += 5
        self.bytes_received += 7
        return phantoms.nearest_centre(tile)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> ClientManifest:
    folder = phantoms.make_bundle(tmp_path_factory.mktemp("plain"), "plain")
    return open_client_half(folder).manifest


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    raw = phantoms.raw_image(phantoms.truth((14, 12, 13)))
    return phantoms.write_nifti(tmp_path / "scan.nii.gz", raw)


def test_it_is_told_every_stage_and_shown_what_there_is(plain: ClientManifest, scan: Path):
    notes, far = Notes(), Far()
    found = segment([scan], "anna", plain, PlainClient(), far, watcher=notes)
    order = ["preparing", Volume, "protecting", "sending", Proxy, Restoration, Answer, "recovering"]
    assert [one if isinstance(one, str) else type(one) for one in notes.seen] == order
    assert notes.seen[1].geometry.shape == found.labels.geometry.shape
    assert (found.bytes_sent, found.bytes_received) == (5, 7)
    # Who is near counts nothing.
    found = segment([scan], "anna", plain, PlainClient(), phantoms.nearest_centre)
    assert (found.bytes_sent, found.bytes_received) == (0, 0)


@pytest.mark.parametrize("until", ["preparing", "protecting", "sending"])
def test_it_can_end_the_image_before_anything_is_sent(plain: ClientManifest, scan: Path, until):
    far = Far()
    with pytest.raises(KeyboardInterrupt):
        segment([scan], "anna", plain, PlainClient(), far, watcher=Notes(until))
    assert far.bytes_sent == 100
