"""What ``veilseg train`` builds, and when there is nothing to mix with."""

from pathlib import Path

import numpy as np
import pytest

from veilseg.bundle import Expectation, IntensityRule, Label
from veilseg.datasets.cases import PreparedCase
from veilseg.datasets.layout import Dataset
from veilseg.errors import InvalidDataset
from veilseg.schemes.trainable import TRAINABLE
from veilseg.training.plan import Plan
from veilseg.training.recipe import Recipe

SHAPE = (48, 48)
DATASET = Dataset(
    Path("lesions"), "lesions", (Label(0, "background"), Label(1, "lesion")), ("US",), (), 2
)
PLAN = Plan(
    (1.0, 1.0),
    SHAPE,
    IntensityRule("as-is", 0, 1),
    Expectation((0.0, 1.0), (40.0, 50.0), (1.0, 1.0), (1.0,), 1.0),
)


def lesions(patients, shift):
    """One lesion in each picture, off the middle by at most so much."""
    cases = []
    for seed, patient in enumerate(patients):
        rng = np.random.default_rng(seed)
        centre = 23.5 + rng.uniform(-shift, shift, (2, 1, 1))
        labels = (np.linalg.norm(np.indices(SHAPE) - centre, axis=0) < 4).astype(np.uint8)
        image = rng.uniform(0.1, 1, (1, *SHAPE)).astype(np.float32)
        cases.append(PreparedCase(f"case{seed}", patient, image, labels))
    return cases


@pytest.mark.parametrize("scheme", TRAINABLE)
def test_networks_have_the_dimensions_of_the_data(scheme):
    built = TRAINABLE[scheme](DATASET, PLAN, lesions("abcd", 0), 0, Recipe())
    assert built.name == scheme
    assert {p.ndim for p in built.parameters()} == {1, 4}
    proxy, _ = built.wire_shapes(1, len(DATASET.labels), SHAPE)
    assert built.selftest_image(np.random.default_rng(0)).shape == proxy


def test_lesions_anywhere_are_mixed_with_labelled_cases():
    scheme = TRAINABLE["mixup"](DATASET, PLAN, lesions("abcdefgh", 18), 0, Recipe())
    assert scheme.settings()["references"] == ["labelled"]


def test_lesions_anywhere_of_one_patient_leave_nothing_to_mix_with():
    cases = lesions("aaaaaaaa", 18)
    with pytest.raises(InvalidDataset, match="no references to mix with") as caught:
        TRAINABLE["mixup"](DATASET, PLAN, cases, 0, Recipe())
    assert str(DATASET.folder) in str(caught.value)
    TRAINABLE["plain"](DATASET, PLAN, cases, 0, Recipe())


def test_one_patient_with_labels_at_a_common_place_is_mixed_with_the_template():
    scheme = TRAINABLE["mixup"](DATASET, PLAN, lesions("aaaa", 0), 0, Recipe())
    assert "synthetic" in scheme.settings()["references"]
