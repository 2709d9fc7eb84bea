"""One labelled case on a bundle's grid. Without torch: a site prepares its references by it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veilseg.bundle import ClientManifest, IntensityRule
from veilseg.datasets.layout import Case
from veilseg.errors import InvalidDataset, InvalidImage
from veilseg.imaging.checks import require_same_grid
from veilseg.imaging.formats import read_image, read_label_map
from veilseg.imaging.plausibility import spacing_for
from veilseg.imaging.preprocessing import Prepared, prepare, prepare_labels
from veilseg.imaging.volume import LabelMap, Unit, Volume
from veilseg.payload import Float32Array


@dataclass(frozen=True)
class PreparedCase:
    """One labelled case on the bundle's grid.

    Attributes
    ----------
    name, patient : str
    image : ndarray, shape (C, X, Y, Z) or (C, X, Y), float32
    labels : ndarray, shape (X, Y, Z) or (X, Y), uint8
    """

    name: str
    patient: str
    image: Float32Array
    labels: NDArray[np.uint8]


def read_case(case: Case, classes: int) -> tuple[Volume, LabelMap]:
    """Read an image with its labels and check that they fit together.

    Raises
    ------
    InvalidImage, GeometryMismatch
        If a file cannot be used, or image and labels lie on different grids.
    InvalidDataset
        If the image has other channels or dimensions than the data set, or a label is out of
        range.
    """
    volume = read_image(case.images)
    if len(volume.array) != case.channels:
        raise InvalidDataset(
            f"{case.images[0]}: channels: {len(volume.array)} in the file, {case.channels} in the "
            "data set"
        )
    if volume.geometry.ndim != case.spatial_dims:
        raise InvalidDataset(
            f"{case.images[0]}: is {volume.geometry.ndim}D; the data set is {case.spatial_dims}D, "
            "as its first image"
        )
    labels = read_label_map(case.labels)
    require_same_grid(volume.geometry, labels.geometry, str(case.images[0]), str(case.labels))
    top = int(labels.array.max())
    if top >= classes:
        raise InvalidDataset(f"{case.labels}: label {top} is not in dataset.json (0…{classes - 1})")
    return volume, labels


def require_same_unit(case: Case, unit: Unit, *before: Unit) -> None:
    """Raise InvalidDataset if an image states its size and those before it do not, or the other
    way round: a spacing of both together is one of neither."""
    for other in before:
        if unit != other:
            raise InvalidDataset(
                f"{case.images[0]}: its size is in {unit}, that of those before it in {other}: "
                "state the size of all or of none"
            )


def prepare_image(
    case: Case,
    volume: Volume,
    spacing_mm: tuple[float, ...],
    intensity: IntensityRule,
    tile_shape: tuple[int, ...],
) -> Prepared:
    """Prepare the image of a case; an error names its file."""
    try:
        return prepare(volume, spacing_mm, intensity, tile_shape)
    except InvalidImage as error:
        raise InvalidImage(f"{case.images[0]}: {error}") from error


def prepare_case(
    case: Case,
    classes: int,
    spacing_mm: tuple[float, ...],
    intensity: IntensityRule,
    tile_shape: tuple[int, ...],
) -> PreparedCase:
    """Read and prepare one case. Raises as :func:`read_case`."""
    volume, labels = read_case(case, classes)
    return _prepared(case, volume, labels, classes, spacing_mm, intensity, tile_shape)


def prepare_case_for(case: Case, manifest: ClientManifest) -> PreparedCase:
    """Read one case and prepare it for a bundle, which may come from other data.

    Raises as :func:`read_case`, and InvalidImage if it is not of the bundle's kind.
    """
    classes = len(manifest.labels)
    volume, labels = read_case(case, classes)
    spacing_mm = spacing_for(volume, manifest, str(case.images[0]))
    return _prepared(
        case, volume, labels, classes, spacing_mm, manifest.intensity, manifest.tile_shape
    )


def _prepared(
    case: Case,
    volume: Volume,
    labels: LabelMap,
    classes: int,
    spacing_mm: tuple[float, ...],
    intensity: IntensityRule,
    tile_shape: tuple[int, ...],
) -> PreparedCase:
    ready = prepare_image(case, volume, spacing_mm, intensity, tile_shape)
    array = prepare_labels(labels, ready.restoration, classes)
    return PreparedCase(case.name, case.patient, ready.array, array)
