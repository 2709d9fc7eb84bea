import numpy as np

from veilseg.bench import volume


def test_body_is_round_and_in_air():
    image = volume.body((40, 30, 20))
    assert (image.dtype, image.shape) == (np.int16, (40, 30, 20))
    assert image[20, 15, 10] > 0
    corners = image[::39, ::29, ::19]
    assert not corners.any()
    assert 0.2 < (image > 0).mean() < 0.4
    assert np.array_equal(image, volume.body((40, 30, 20)))
