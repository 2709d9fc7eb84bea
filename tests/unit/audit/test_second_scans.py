import numpy as np
import pytest

from veilseg.audit.second_scans import Gallery, second_acquisitions


@pytest.fixture
def pairs():
    """Two images of each of three people; the second of each person is looked for."""
    images = [np.full((1, 2, 2), number, np.float32) for number in range(6)]
    return Gallery(images, ["a", "a", "b", "b", "c", "c"], [1, 3, 5])


def test_another_image_of_the_same_person_is_no_candidate(pairs):
    scores = np.zeros((3, 6))
    scores[[0, 1, 2], [0, 2, 0]] = 2  # of the same person, of the same person, of another
    scores[[0, 1, 2], [1, 3, 5]] = 1
    assert pairs.hits(scores).tolist() == [1, 1, 0]
    assert pairs.mean_average_precision(scores, 5) == pytest.approx((1 + 1 + 1 / 2) / 3)


def test_guess_among_those_who_are_left(pairs):
    assert pairs.chance == pytest.approx(1 / 5)
    rng = np.random.default_rng(0)
    hits = np.mean([pairs.hits(rng.random((3, 6))).mean() for _ in range(4000)])
    assert hits == pytest.approx(pairs.chance, abs=0.02)


def test_null_control_fails_where_everybody_is_recognised():
    people = [str(number) for number in range(12)]
    gallery = Gallery([np.zeros((1, 1, 1), np.float32)] * 12, people, range(12))
    assert not gallery.null(gallery.hits(np.eye(12))).passed
    assert gallery.null(gallery.hits(np.roll(np.eye(12), 1, axis=1))).passed


def test_second_scan_is_of_the_same_person_and_no_copy(mixup, workshop):
    cases, gallery, source = second_acquisitions(workshop(mixup, audited=4))
    assert list(gallery.people) == [case.patient for case in cases]
    assert len(gallery) == 4
    assert "altered" in source
    for case, again in zip(cases, gallery.images, strict=True):
        assert not np.allclose(case.image, again, atol=0.05)
