"""A real brain that a package registry carries: the MNI152 template in the nilearn wheel."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from veilseg.errors import InvalidInput, MissingDependency
from veilseg.imaging.nifti import read_image

DATA = Path("datasets", "data")
NAME = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
FULL = 255.0  # the maps are probabilities in uint8

# What the template's maps call grey and white matter, in labels of the brain-tissue bundles:
# its grey matter takes in the deep nuclei.
TISSUES = {"grey matter": ("grey matter", "deep nuclei"), "white matter": ("white matter",)}


@dataclass(frozen=True)
class Brain:
    """The template image and its tissues.

    Attributes
    ----------
    image : Path
        Skull-stripped T1 average of 152 people, 1 mm.
    truth : ndarray, shape (X, Y, Z), uint8
        0 other, then the tissues in the order of ``TISSUES``.
    """

    image: Path
    truth: NDArray[np.uint8]


def template_brain() -> Brain:
    """Find the template without importing nilearn (which would import half of science).

    Raises
    ------
    MissingDependency
        If nilearn is not installed.
    InvalidInput
        If its wheel no longer has the files.
    """
    spec = importlib.util.find_spec("nilearn")
    if spec is None or spec.origin is None:
        raise MissingDependency("nilearn: not installed: pip install 'veilseg[demo]'")
    folder = Path(spec.origin).parent / DATA
    files = {part: folder / NAME.format(part) for part in ("t1", "gm", "wm")}
    for path in files.values():
        if not path.is_file():
            raise InvalidInput(f"{path}: this version of nilearn does not ship the template")
    maps = [read_image([files[part]]).array[0] / FULL for part in ("gm", "wm")]
    other = 1 - maps[0] - maps[1]
    return Brain(files["t1"], np.argmax([other, *maps], axis=0).astype(np.uint8))


def tissues_of(labels: NDArray[np.uint8], names: tuple[str, ...]) -> NDArray[np.uint8]:
    """Merge a bundle's labels into the template's tissues.

    Parameters
    ----------
    labels : ndarray, uint8
    names : tuple of str
        The bundle's class names, in the order of their values.

    Raises
    ------
    InvalidInput
        If the bundle lacks one of the tissues.
    """
    lookup = np.zeros(256, dtype=np.uint8)
    for tissue, (name, parts) in enumerate(TISSUES.items(), start=1):
        values = [names.index(part) for part in parts if part in names]
        if not values:
            raise InvalidInput(f"the bundle has no class for {name} among {', '.join(names)}")
        lookup[values] = tissue
    merged: NDArray[np.uint8] = lookup[labels]
    return merged
