"""The sweep over settings, with both ends; and pictures of what audits found."""

import base64
import io
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from veilseg.audit import frontier
from veilseg.audit.laws import MixtureLaw, SweptLaw
from veilseg.audit.pictures import frontier_plot, rows
from veilseg.audit.sweep import NOTHING, RAW, Point
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
    assert raw["image"] == 1  # nothing is filled, nothing is mixed
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


def test_setting_of_a_point_is_what_networks_were_told_of_it(mixup, people):
    """Networks are fitted to all numbers of references, and told the same of a point with one."""
    law = mixup.law()
    assert isinstance(law, MixtureLaw)
    told = {}
    for seed in range(12):
        rng = np.random.default_rng(seed)
        one = SweptLaw(law, (0.5, 0.5), (1, 2)).example(people[0], rng)
        told[len(np.unique(one["reference_labels"]))] = one["setting"][1].mean()
    for count in (1, 2):
        alone = SweptLaw(law, (0.5, 0.5), (count,)).example(people[0], np.random.default_rng(0))
        assert alone["setting"][1].mean() == 1 / count
    assert sorted(told.values()) == [0.5, 1]


@pytest.mark.parametrize(
    ("raw", "nothing", "remembered", "untrusted"),
    [
        ({}, {}, 0.95, []),
        ({"image": 0.8}, {}, 0.95, ["image"]),
        ({"mask": 0.15}, {}, 0.95, ["mask"]),
        ({}, {"identity": 0.5}, 0.95, ["identity"]),
        ({}, {"membership": 0.9}, 0.95, ["membership"]),
        ({}, {}, 0.6, ["membership"]),
        ({}, {"membership": float("nan")}, float("nan"), ["membership"]),
    ],
)
def test_channel_whose_ends_are_wrong_has_no_figures(raw, nothing, remembered, untrusted):
    def point(what, **measured):
        channels = {"image": 1.0, "mask": 0.9, "identity": 1.0, "membership": 0.6} | measured
        return Point(what, 1, 0, dice=0.9, intervals={}, **channels)

    none = {"image": 0.3, "mask": 0.1, "identity": 0.1, "membership": 0.5} | nothing
    chance = {"image": 0.35, "mask": 0.2, "identity": 0.3, "membership": 0.7}
    ends = point(RAW, **raw), point(NOTHING, **none)
    assert frontier._failed(*ends, chance, remembered) == untrusted


def test_report_is_due_without_a_sweep_as_well(monkeypatch, mixup, session_workshop):
    def none(*_):
        raise MemoryError

    monkeypatch.setattr(frontier, "Sweep", none)
    points, status = frontier.swept(session_workshop(mixup))
    assert points == []
    assert status == "not run: it takes more memory than there is"


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
