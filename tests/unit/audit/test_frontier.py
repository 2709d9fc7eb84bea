"""The sweep over settings, with both ends; and pictures of what audits found."""

import base64
import io
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from veilseg.audit import frontier
from veilseg.audit.frontier import NOTHING, RAW
from veilseg.audit.laws import MixtureLaw, SweptLaw
from veilseg.audit.pictures import frontier_plot, rows
from veilseg.errors import WrongUsage
from veilseg.schemes.references import LEAST_CONTRAST, contrast


@pytest.fixture(scope="module")
def points(mixup, workshop):
    patched = pytest.MonkeyPatch()
    patched.setattr(frontier, "COEFFICIENTS", (0.2, 0.8))
    patched.setattr(frontier, "COUNTS", (1, 2))
    yield frontier.frontier(workshop(mixup, steps=40))
    patched.undo()


def test_more_of_the_patient_shows_more_and_keeps_more(points):
    low, high = points[0], points[1]
    assert (low["coefficient"], high["coefficient"], low["references"]) == (0.2, 0.8, 1)
    for what in ("dice", "image", "mask"):
        assert high[what] > low[what]


def test_ends_are_the_raw_image_and_somebody_else(points):
    raw, nothing = points[-2:]
    assert (raw["what"], nothing["what"]) == (RAW, NOTHING)
    assert raw["image"] > 0.9
    assert raw["identity"] >= 0.8
    assert nothing["identity"] <= 0.3
    assert all(nothing[what] < raw[what] for what in ("dice", "image", "mask"))


def test_every_setting_is_a_point(points):
    settings = [(p["coefficient"], p["references"]) for p in points[:-2]]
    assert settings == [(0.2, 1), (0.8, 1), (0.2, 2), (0.8, 2)]


def test_mean_of_references_keeps_the_contrast_of_one(mixup, people):
    """A mean is blander than what it is of; it is stretched as any reference of a site."""
    law = mixup.law()
    assert isinstance(law, MixtureLaw)
    for seed, person in enumerate(people[:10]):
        swept = SweptLaw(law, (0.5, 0.5), (4,))
        one = swept.example(person, np.random.default_rng(seed))
        assert one["reference_labels"].sum(axis=0) == pytest.approx(1)
        least = LEAST_CONTRAST * contrast(person.image)
        assert one["reference"].std() >= 0.95 * least


def test_plain_has_nothing_to_sweep(plain, session_workshop):
    with pytest.raises(WrongUsage, match="mixes nothing"):
        frontier.frontier(session_workshop(plain))


def _pixels(encoded: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB"))


def test_plot_of_the_sweep_shows_lines(points):
    picture = _pixels(frontier_plot(points))
    assert picture.shape[1] > 900
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50
    # Where membership is unknown its panel says so and the others are drawn.
    unknown = [point | {"membership": None} for point in points]
    assert _pixels(frontier_plot(unknown)).shape == picture.shape


def test_rows_show_people_and_what_was_found(mixup, session_workshop):
    workshop = session_workshop(mixup)
    trained = {"A5": "trained network", "A16": "network on both"}
    drawn = [_pixels(rows(workshop, ran)) for ran in ({}, trained, {"A5": "the proxy itself"})]
    for picture in drawn:
        height, width, _ = picture.shape
        assert width > height  # six panels for each of three people
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100
    # Of every attacker its own picture.
    assert all((a != b).any() for a, b in combinations(drawn, 2))
