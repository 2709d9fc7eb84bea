"""The population template is a mean over people, on the bundle's tile."""

from dataclasses import replace

import numpy as np
import pytest

from veilseg.datasets.cases import PreparedCase
from veilseg.schemes.population import population_template, represents


def test_template_has_the_labels_and_the_tissues_outside_them(cases):
    template = population_template(cases, (16, 16, 16), 2, seed=0)
    assert template.tissues.shape == (16, 16, 16)
    assert template.label_of_tissue[0] == 0
    assert set(template.label_of_tissue) == {0, 1}
    labels = template.label_of_tissue[template.tissues]
    majority = np.mean([case.labels for case in cases], axis=0) > 0.5
    np.testing.assert_array_equal(labels == 1, majority)
    present = np.mean([(case.image[0] > 0) for case in cases], axis=0)
    assert (template.tissues[present == 0] == 0).all()
    assert (template.tissues[present == 1] > 0).all()
    count = len(template.label_of_tissue)
    assert template.mean.shape == template.spread.shape == (count, 1)
    mean = np.mean([case.image[0] for case in cases], axis=0)[majority].mean()
    assert template.mean[template.label_of_tissue == 1].item() == pytest.approx(mean, abs=1e-5)


def test_same_seed_gives_the_same_template(cases):
    first, again = (population_template(cases, (16, 16, 16), 2, seed=0) for _ in range(2))
    for name in ("tissues", "label_of_tissue", "mean", "spread"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))


def test_template_fills_a_tile_of_another_size(cases):
    template = population_template(cases, (24, 16, 8), 2, seed=0)
    assert template.tissues.shape == (24, 16, 8)
    share = (template.label_of_tissue[template.tissues] == 1).mean()
    own = population_template(cases, (16, 16, 16), 2, seed=0)
    expected = (own.label_of_tissue[own.tissues] == 1).mean()
    # A ball of 8 voxels' width on an axis of half as many: its surface moves by a quarter voxel.
    assert share == pytest.approx(expected, rel=0.25)


SQUARE = (48, 48)
BLOB_RADIUS = 4


@pytest.fixture
def blobs():
    """Twenty pictures with one blob of label 1 each, off the middle by at most so much."""

    def build(shift):
        cases = []
        for seed in range(20):
            rng = np.random.default_rng(seed)
            centre = 23.5 + rng.uniform(-shift, shift, (2, 1, 1))
            labels = np.linalg.norm(np.indices(SQUARE) - centre, axis=0) < BLOB_RADIUS
            image = (0.3 + 0.5 * labels + rng.normal(0, 0.02, SQUARE))[None].astype(np.float32)
            cases.append(
                PreparedCase(f"case{seed}", f"patient{seed}", image, labels.astype(np.uint8))
            )
        return cases

    return build


@pytest.mark.parametrize(("shift", "expected"), [(0, True), (2, True), (18, False)])
def test_labels_at_a_common_place_are_represented(blobs, shift, expected):
    cases = blobs(shift)
    assert represents(population_template(cases, SQUARE, 2, seed=0), cases) is expected


def test_every_class_must_be_represented(blobs):
    # An organ in the middle of all, and a lesion that lies elsewhere in each.
    cases = [
        PreparedCase(
            organ.name, organ.patient, organ.image, np.where(lesion.labels, 2, organ.labels)
        )
        for organ, lesion in zip(blobs(0), blobs(18), strict=True)
    ]
    assert not represents(population_template(cases, SQUARE, 3, seed=0), cases)


def test_class_that_a_template_does_not_know_is_not_represented(blobs):
    template = population_template(blobs(0), SQUARE, 2, seed=0)
    without = replace(template, label_of_tissue=np.zeros_like(template.label_of_tissue))
    assert not represents(without, blobs(0))


def test_class_that_nobody_has_needs_no_place(blobs):
    cases = blobs(0)
    assert represents(population_template(cases, SQUARE, 4, seed=0), cases)
