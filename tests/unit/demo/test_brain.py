"""The template brain and what is read off an answer."""

import numpy as np
import pytest

from veilseg.demo.brain import TISSUES, template_brain, tissues_of
from veilseg.demo.run import separate
from veilseg.demo.server import server_process
from veilseg.errors import InvalidInput, ServerUnreachable
from veilseg.imaging.nifti import read_image

NAMES = ("background", "grey matter", "white matter", "deep nuclei", "ventricles")


def test_template_and_truth_lie_on_one_grid_and_agree():
    brain = template_brain()
    image = read_image([brain.image]).array[0]
    assert brain.truth.shape == image.shape
    assert set(np.unique(brain.truth)) == {0, *range(1, len(TISSUES) + 1)}
    # In T1 white matter is brighter than grey, and neither lies outside the head.
    assert image[brain.truth == 2].mean() > image[brain.truth == 1].mean()
    assert (image[brain.truth > 0] > 0).mean() > 0.99


def test_deep_nuclei_count_as_grey_matter():
    labels = np.array([0, 1, 2, 3, 4], dtype=np.uint8)
    np.testing.assert_array_equal(tissues_of(labels, NAMES), [0, 1, 2, 1, 0])


def test_bundle_without_a_tissue_is_refused():
    with pytest.raises(InvalidInput, match="white matter"):
        tissues_of(np.zeros(1, np.uint8), ("background", "grey matter"))


def test_separation_at_one_half_is_the_union_of_both_masks():
    patient = np.array([0, 1, 0, 2, 1])
    reference = np.array([0, 0, 2, 2, 1])
    maps = [np.stack([labels == k for k in range(3)]) for labels in (patient, reference)]
    answer = 0.5 * maps[0].astype(np.float32) + 0.5 * maps[1].astype(np.float32)
    np.testing.assert_array_equal(separate(answer.reshape(3, 5, 1, 1)).ravel(), [0, 1, 2, 2, 1])


def test_server_that_does_not_start_is_told_with_its_reason(tmp_path):
    with (
        pytest.raises(ServerUnreachable, match=r"did not start: veilseg: .*no server half"),
        server_process([tmp_path]),
    ):
        pass
