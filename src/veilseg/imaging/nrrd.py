"""Label maps as NRRD, which 3D Slicer and OHIF take. Needs ``pip install 'veilseg[gateway]'``."""

import io
from pathlib import Path

import nrrd

from veilseg.errors import OutputNotWritable
from veilseg.files import written_whole
from veilseg.imaging.volume import LabelMap

ENDING = ".nrrd"


def write_label_map(path: Path, labels: LabelMap) -> None:
    """Write labels in their own type, uncompressed, on three axes, whole or not at all.

    Viewers in a browser read no other encoding. The grid is told in RAS millimetres.

    Raises
    ------
    OutputNotWritable
        If the name ends otherwise, the folder is missing or takes no file, or the disk is full.
    """
    if not path.name.lower().endswith(ENDING):
        raise OutputNotWritable(f"{path}: cannot be written: the name must end in {ENDING}")
    affine = labels.geometry.affine
    header = {
        "space": "right-anterior-superior",
        "space directions": affine[:3, :3].T,
        "space origin": affine[:3, 3],
        "kinds": ["domain"] * 3,
        "encoding": "raw",
    }
    content = io.BytesIO()
    nrrd.write(content, labels.array.reshape(*labels.array.shape[:2], -1), header)
    with written_whole(path) as temporary:
        temporary.write_bytes(content.getvalue())
