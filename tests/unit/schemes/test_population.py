"""The population template is a mean over people, on the bundle's tile."""

import numpy as np
import pytest

from veilseg.schemes.population import population_template


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
