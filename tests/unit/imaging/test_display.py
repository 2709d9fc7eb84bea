"""Pictures for a browser lie over each other, whatever grid they are on."""

import nibabel as nib
import numpy as np
import pytest
from phantoms import TURNED

from veilseg.bundle import IntensityRule
from veilseg.imaging import display
from veilseg.imaging.preprocessing import prepare
from veilseg.imaging.volume import Geometry, LabelMap, Volume

WINDOW = IntensityRule("window", 0.0, 1.0)


def read(content: bytes) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(content)


def middle_of_brightest(content: bytes) -> np.ndarray:
    image = read(content)
    # What is around it has a tenth of 255.
    weight = np.clip(np.asarray(image.dataobj, dtype=float).squeeze() - 30, 0, None)
    index = (np.indices(weight.shape) * weight).sum(axis=(1, 2, 3)) / weight.sum()
    return image.affine[:3, :3] @ index + image.affine[:3, 3]


@pytest.mark.parametrize("scale", [(1.0, 1.0, 1.0), (2.0, 1.5, 3.0)])
@pytest.mark.parametrize("seed", range(3))
def test_the_prepared_image_lies_over_the_image(scale, seed):
    """A bright block is found in its place again: exactly, or within a part of a voxel."""
    rng = np.random.default_rng(seed)
    shape = (20, 24, 22)
    array = np.zeros((1, *shape), np.float32)
    array[:, 3:-4, 5:-2, 2:-6] = 0.1
    block = tuple(slice(start := int(rng.integers(7, size - 12)), start + 5) for size in shape)
    array[(0, *block)] = 1.0
    affine = TURNED @ np.diag([*scale, 1])
    volume = Volume(array, Geometry(shape, affine))
    prepared = prepare(volume, (1.0, 1.0, 1.0), WINDOW, (32, 32, 32))
    ruler = display.Ruler.of_prepared(prepared.restoration)
    found = middle_of_brightest(display.grey(prepared.array, ruler))
    expected = middle_of_brightest(display.image(volume))
    # Half a voxel off would be a corner taken for a middle.
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.02)


def test_axes_come_in_the_order_of_ras_and_labels_as_they_are():
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    geometry = Geometry(array.shape, np.diag([-2.0, 3, 4, 1]))
    found = read(display.labels(LabelMap(array, geometry)))
    np.testing.assert_array_equal(np.asarray(found.dataobj), array[::-1])
    np.testing.assert_array_equal(found.affine, np.diag([2.0, 3, 4, 1]))


def test_grey_reaches_from_the_darkest_to_almost_the_brightest():
    array = np.linspace(-5, 5, 1000, dtype=np.float32).reshape(1, 10, 10, 10)
    array[0, 0, 0, 1] = 1e6  # one outlier leaves the others to be seen
    geometry = Geometry((10, 10, 10), np.eye(4))
    shown = np.asarray(read(display.image(Volume(array, geometry))).dataobj).squeeze()
    assert (shown[0, 0, 0], shown[-1, -1, -1], shown[0, 0, 1]) == (0, 255, 255)
    assert 120 < shown[5, 0, 0] < 135
    flat = np.full((1, 4, 4), 7, np.float32)
    assert not np.asarray(
        read(display.image(Volume(flat, Geometry((4, 4), np.eye(4), "pixel")))).dataobj
    ).any()


def test_channels_are_frames_and_three_in_2d_are_colours():
    rng = np.random.default_rng(0)
    array = rng.random((2, 5, 6, 7)).astype(np.float32)
    found = read(display.image(Volume(array, Geometry((5, 6, 7), np.eye(4)))))
    assert found.shape == (5, 6, 7, 2)
    colour = np.zeros((3, 4, 5), np.float32)
    colour[0, 1, 2] = 255
    picture = read(display.image(Volume(colour, Geometry((4, 5), np.eye(4), "pixel"))))
    voxel = np.asarray(picture.dataobj)[1, 2, 0]
    assert picture.get_data_dtype() == display.RGB
    assert tuple(voxel) == (255, 0, 0)


def test_answers_are_mixed_as_colours():
    maps = np.zeros((3, 2, 2, 2), np.float32)
    maps[1, 0, 0, 0], maps[2, 0, 0, 0], maps[2, 1, 1, 1] = 0.5, 0.5, 2.0
    ruler = display.Ruler((0.0,) * 3, (1.0,) * 3)
    colours = ((200, 0, 0), (0, 100, 40))
    found = np.asarray(read(display.mixed(maps, colours, ruler)).dataobj)
    assert tuple(found[0, 0, 0]) == (100, 50, 20)
    assert tuple(found[1, 1, 1]) == (0, 100, 40)  # more than certain is no brighter
    assert tuple(found[0, 1, 0]) == (0, 0, 0)


def test_numbers_read_as_text_does():
    found = np.asarray(
        read(display.sequences(np.arange(12, dtype=np.float32).reshape(2, 6))).dataobj
    )
    assert found.shape[:3] == (3, 3, 2)
    # Column, row: the second number is to the right of the first, the fourth below it.
    assert found[0, 0, 0].item() == 0
    assert found[1, 0, 0].item() < found[0, 1, 0].item()
    assert found[0, 2, 0].item() == 0  # there are no more numbers
