"""From data to a plan: spacing, tile, intensity rule and what images look like."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from veilseg.bundle import Expectation, IntensityRule
from veilseg.datasets.cases import (
    PreparedCase,
    prepare_image,
    read_case,
    require_same_unit,
)
from veilseg.datasets.layout import Case, Dataset
from veilseg.imaging.checks import require_bytes_fitting
from veilseg.imaging.orientation import ras_spacing_mm
from veilseg.imaging.plausibility import expectation_of
from veilseg.imaging.preprocessing import padding_to, prepare_labels
from veilseg.imaging.volume import LabelMap, Unit, Volume
from veilseg.networks.segmenter import DIVISOR, SMALLEST_SIDE

PERCENTILES = IntensityRule("percentile", 0.5, 99.5)
# One tile holds nearly every training image where memory allows: no seams, and the number of
# tiles then says nothing about the patient. 1.5 million voxels train in about 6 GB.
TILE_COVERAGE_PERCENTILE = 95
MOST_TILE_VOXELS = 1_500_000


@dataclass(frozen=True)
class Plan:
    """What preprocessing needs to know; goes into the bundle's manifest."""

    spacing_mm: tuple[float, ...]
    tile_shape: tuple[int, ...]
    intensity: IntensityRule
    expectation: Expectation
    unit: Unit = "mm"


def plan_and_prepare(
    dataset: Dataset, cases: Sequence[Case], progress: Callable[[int, int], None]
) -> tuple[Plan, list[PreparedCase]]:
    """Choose spacing, tile and intensity rule from the training cases and prepare all of them.

    Parameters
    ----------
    cases : sequence of Case
        Training cases only: nothing of the test patients may shape the plan.
    progress : callable
        Called with (done, total).

    Raises
    ------
    InvalidImage, InvalidDataset, GeometryMismatch
        For the first case that cannot be used, or whose size is in another unit than that of
        those before, or if all together do not fit into memory.
    """
    loaded: list[tuple[Volume, LabelMap]] = []
    held = 0
    for index, case in enumerate(cases):
        volume, labels = read_case(case, len(dataset.labels))
        require_same_unit(case, volume.geometry.unit, *(one.geometry.unit for one, _ in loaded[:1]))
        held += volume.array.nbytes + labels.array.nbytes
        # Raw and prepared, and there is to be room for a network.
        require_bytes_fitting(held, f"{dataset.folder}: so far the training data")
        loaded.append((volume, labels))
        progress(index + 1, 2 * len(cases))
    spacings = [ras_spacing_mm(volume.geometry) for volume, _ in loaded]
    spacing_mm = tuple(round(float(value), 4) for value in np.median(spacings, axis=0))
    ready = []
    for index, (case, (volume, labels)) in enumerate(zip(cases, loaded, strict=True)):
        image = prepare_image(case, volume, spacing_mm, PERCENTILES, (1,) * len(spacing_mm))
        ready.append((image.array, prepare_labels(labels, image.restoration, len(dataset.labels))))
        progress(len(cases) + index + 1, 2 * len(cases))
    tile_shape = choose_tile([labels.shape for _, labels in ready])
    expectation = expectation_of([volume for volume, _ in loaded], [image for image, _ in ready])
    prepared = []
    for case, (image_array, label_array) in zip(cases, ready, strict=True):
        padding = padding_to(label_array.shape, tile_shape)
        prepared.append(
            PreparedCase(
                case.name,
                case.patient,
                np.pad(image_array, ((0, 0), *padding)),
                np.pad(label_array, padding),
            )
        )
    unit = loaded[0][0].geometry.unit
    return Plan(spacing_mm, tile_shape, PERCENTILES, expectation, unit), prepared


def choose_tile(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The smallest that the network takes and that holds 95 % of the images per axis.

    Where that exceeds the voxel budget, the longest axis is cut until it fits.
    """
    wanted = np.percentile(np.array(shapes), TILE_COVERAGE_PERCENTILE, axis=0)
    tile = [max(SMALLEST_SIDE, math.ceil(size / DIVISOR) * DIVISOR) for size in wanted]
    while math.prod(tile) > MOST_TILE_VOXELS:
        tile[tile.index(max(tile))] -= DIVISOR
    return tuple(tile)
