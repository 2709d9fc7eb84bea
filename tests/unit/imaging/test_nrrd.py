from pathlib import Path

import nrrd
import numpy as np
import pytest

from veilseg.errors import OutputNotWritable
from veilseg.imaging.formats import write_segmentation
from veilseg.imaging.nrrd import write_label_map
from veilseg.imaging.volume import Geometry, LabelMap

AFFINE = np.array([[0, -2.0, 0, 5], [1, 0, 0, -7], [0, 0, 3, 3], [0, 0, 0, 1]])


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4)])
def test_labels_in_their_place(tmp_path: Path, shape, dtype):
    array = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
    path = tmp_path / "labels.nrrd"
    write_segmentation(path, LabelMap(array, Geometry(shape, AFFINE)), [], None)
    found, header = nrrd.read(str(path))
    np.testing.assert_array_equal(found.reshape(shape), array)
    assert (found.ndim, found.dtype) == (3, array.dtype)
    assert header["encoding"] == "raw"
    np.testing.assert_array_equal(header["space directions"].T, AFFINE[:3, :3])
    np.testing.assert_array_equal(header["space origin"], AFFINE[:3, 3])


def test_names_that_are_none(tmp_path: Path):
    labels = LabelMap(np.zeros((2, 2, 2), np.uint8), Geometry((2, 2, 2), AFFINE))
    with pytest.raises(OutputNotWritable, match=r"the name must end in \.nrrd$"):
        write_label_map(tmp_path / "x.seg", labels)
