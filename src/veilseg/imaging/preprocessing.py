"""From any grid to the bundle's grid, and exactly back.

Reading → RAS+ → bundle spacing → intensities in [0, 1] → crop to what is not empty → pad to at
least one tile. Each step leaves in a :class:`Restoration` what undoes it; that record stays at
the site. Cropping and padding make the proxy's shape depend on the tile, not on the scanner.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from nibabel.orientations import apply_orientation, io_orientation, ornt_transform
from numpy.typing import NDArray
from scipy import ndimage

from veilseg.bundle import IntensityRule
from veilseg.errors import GeometryMismatch, InvalidImage
from veilseg.imaging.volume import Geometry, LabelMap, Volume
from veilseg.payload import Float32Array

# Spacings that agree within this are the same: resampling would only blur.
SAME_SPACING_RELATIVE = 1e-3
Number = TypeVar("Number", int, float)
RAS = np.array([[0, 1], [1, 1], [2, 1]])


@dataclass(frozen=True)
class Restoration:
    """What undoes the preprocessing of one image. Stays at the site.

    Attributes
    ----------
    original : Geometry
        Grid of the file.
    orientation : ndarray, shape (3, 2)
        nibabel orientation from the file's axes to RAS+.
    resampled_shape : (X, Y, Z)
        In RAS+ at the bundle's spacing, before cropping.
    zoom : tuple of float
        Resampled over original voxel count per RAS+ axis is about this; 1 means untouched.
    crop : tuple of slice
        What was kept of the resampled grid.
    padding : tuple of (before, after)
        What was added around it.
    """

    original: Geometry
    orientation: NDArray[np.float64]
    resampled_shape: tuple[int, ...]
    zoom: tuple[float, ...]
    crop: tuple[slice, ...]
    padding: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Prepared:
    """An image on the bundle's grid.

    Attributes
    ----------
    array : ndarray, shape (C, X, Y, Z), float32
        Intensities in [0, 1]; exactly 0 where there is nothing.
    restoration : Restoration
    """

    array: Float32Array
    restoration: Restoration


def prepare(
    volume: Volume,
    spacing_mm: tuple[float, ...],
    intensity: IntensityRule,
    tile_shape: tuple[int, ...],
) -> Prepared:
    """Bring an image onto the bundle's grid.

    Parameters
    ----------
    volume : Volume
        Any orientation and spacing.
    spacing_mm : tuple of float
        The bundle's spacing per RAS+ axis.
    intensity : IntensityRule
    tile_shape : (X, Y, Z)
        The result is at least this large on every axis.

    Returns
    -------
    Prepared

    Raises
    ------
    InvalidImage
        If nothing is left after the intensity rule.
    """
    orientation = io_orientation(volume.geometry.affine)
    ras: Float32Array = np.stack([_reorient(channel, orientation) for channel in volume.array])
    own_spacing = ras_spacing_mm(volume.geometry)
    zoom = tuple(
        1.0 if abs(own / target - 1) < SAME_SPACING_RELATIVE else own / target
        for own, target in zip(own_spacing, spacing_mm, strict=True)
    )
    scaled = np.stack([rescale(channel, intensity) for channel in ras])
    if not scaled.any():
        raise InvalidImage("intensity: no voxel is left above the lower bound")
    resampled_shape = tuple(
        max(1, round(size * factor)) for size, factor in zip(ras.shape[1:], zoom, strict=True)
    )
    # Empty is empty in every channel; interpolation must not smear a halo into it.
    present = np.asarray((scaled > 0).any(axis=0), dtype=np.float32)
    empty = _resample(present, resampled_shape, zoom) < 0.5
    resampled = np.stack([_resample(channel, resampled_shape, zoom) for channel in scaled])
    resampled[:, empty] = 0
    if empty.all():
        raise InvalidImage("intensity: no voxel is left above the lower bound")
    crop = ndimage.find_objects((~empty).astype(np.uint8))[0]
    kept = resampled[(slice(None), *crop)]
    padding = padding_to(kept.shape[1:], tile_shape)
    array = np.ascontiguousarray(np.pad(kept, ((0, 0), *padding)), dtype=np.float32)
    return Prepared(
        array,
        Restoration(volume.geometry, orientation, resampled_shape, zoom, tuple(crop), padding),
    )


def prepare_labels(labels: LabelMap, restoration: Restoration, classes: int) -> NDArray[np.uint8]:
    """Take labels the same way as their image: nearest class after linear interpolation.

    Returns
    -------
    ndarray, shape (X, Y, Z), uint8
        On the grid of the prepared image.
    """
    if labels.array.shape != restoration.original.shape:
        raise GeometryMismatch(
            f"labels of shape {labels.array.shape} for an image of {restoration.original.shape}"
        )
    ras = _reorient(labels.array, restoration.orientation)
    if all(factor == 1.0 for factor in restoration.zoom):
        resampled = ras
    else:
        resampled = _strongest_class(
            (
                _resample(ras == value, restoration.resampled_shape, restoration.zoom)
                for value in range(classes)
            ),
            restoration.resampled_shape,
        )
    return np.ascontiguousarray(np.pad(resampled[restoration.crop], restoration.padding))


def restore(probabilities: Float32Array, restoration: Restoration) -> LabelMap:
    """Bring class probabilities back to the file's own grid and decide.

    Parameters
    ----------
    probabilities : ndarray, shape (K, X, Y, Z), float32
        On the grid of the prepared image.

    Returns
    -------
    LabelMap
        On the original grid; background where the preprocessing saw nothing.
    """
    inner = tuple(
        slice(before, size - after)
        for (before, after), size in zip(restoration.padding, probabilities.shape[1:], strict=True)
    )
    kept = probabilities[(slice(None), *inner)]
    ras_shape = _reordered(restoration.original.shape, restoration.orientation)
    back = tuple(1.0 / factor for factor in restoration.zoom)

    def whole_class(index: int) -> Float32Array:
        # Outside the crop nothing was seen: background, with certainty.
        whole = np.full(restoration.resampled_shape, float(index == 0), dtype=np.float32)
        whole[restoration.crop] = kept[index]
        return _resample(whole, ras_shape, back)

    classes = (whole_class(index) for index in range(len(kept)))
    ras_labels = _strongest_class(classes, ras_shape)
    inverse = ornt_transform(RAS, restoration.orientation)
    array = np.ascontiguousarray(apply_orientation(ras_labels, inverse))
    return LabelMap(array, restoration.original)


def ras_spacing_mm(geometry: Geometry) -> tuple[float, ...]:
    """Spacing along the axes that point closest to right, anterior and superior."""
    orientation = io_orientation(geometry.affine)
    return _reordered(geometry.spacing_mm, orientation)


def padding_to(shape: tuple[int, ...], tile_shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Voxels to add before and after each axis to reach the tile, the image in the middle."""
    missing = [max(0, target - size) for size, target in zip(shape, tile_shape, strict=True)]
    return tuple((total // 2, total - total // 2) for total in missing)


def rescale(array: Float32Array, intensity: IntensityRule) -> Float32Array:
    """Apply the intensity rule; the result lies in [0, 1] and keeps exact zeros.

    ``percentile`` takes the bounds from the image's own non-zero voxels (a skull-stripped head
    is mostly zeros), ``window`` takes them as they are, ``as-is`` only clips.
    """
    if intensity.rule == "as-is":
        return np.clip(array, 0, 1)
    lower, upper = intensity.lower, intensity.upper
    if intensity.rule == "percentile":
        present = array[array != 0]
        if present.size == 0:
            return np.zeros_like(array)
        lower, upper = np.percentile(present, [intensity.lower, intensity.upper])
    if upper <= lower:
        raise InvalidImage(f"intensity: the range {lower:g}…{upper:g} is empty")
    scaled = np.clip((array - lower) / (upper - lower), 0, 1)
    if intensity.rule == "percentile":
        # The darkest tissue is still tissue: only what was exactly zero stays so.
        scaled = np.where(array != 0, np.maximum(scaled, SMALLEST_PRESENT), 0)
    return np.asarray(scaled, dtype=np.float32)


# Tells present-but-dark from empty after clipping; representable in FP16.
SMALLEST_PRESENT = np.float32(2.0**-10)


def _strongest_class(classes: Iterable[Float32Array], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Argmax over class maps that are made one at a time: memory for two, not for all."""
    best = np.full(shape, -np.inf, dtype=np.float32)
    labels = np.zeros(shape, dtype=np.uint8)
    for index, candidate in enumerate(classes):
        better = candidate > best
        labels[better] = index
        best[better] = candidate[better]
    return labels


def _reorient(array: NDArray[np.generic], orientation: NDArray[np.float64]) -> NDArray[np.generic]:
    return np.asarray(apply_orientation(array, orientation))


def _reordered(values: tuple[Number, ...], orientation: NDArray[np.float64]) -> tuple[Number, ...]:
    """Per-axis values of the file in the order of the RAS+ axes."""
    ordered = list(values)
    for source, (target, _) in enumerate(orientation):
        ordered[int(target)] = values[source]
    return tuple(ordered)


def _resample(
    array: NDArray[np.generic], shape: tuple[int, ...], zoom: tuple[float, ...]
) -> Float32Array:
    """Linear interpolation onto a grid of ``shape`` voxels with the same outer corner."""
    if all(factor == 1.0 for factor in zoom):
        return np.asarray(array, dtype=np.float32)
    source = np.asarray(array, dtype=np.float32)
    shrinking = [max(0.0, (1 / factor - 1) / 2) for factor in zoom]
    if any(shrinking):
        # Averaging before taking fewer samples, else thin structures alias.
        source = ndimage.gaussian_filter(source, shrinking)
    step = 1.0 / np.asarray(zoom)
    return np.asarray(
        ndimage.affine_transform(
            source, step, (step - 1) / 2, output_shape=shape, order=1, mode="nearest"
        ),
        dtype=np.float32,
    )
