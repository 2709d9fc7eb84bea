"""From any grid to the bundle's grid, and exactly back, in 2D and 3D.

Reading → RAS+ → bundle spacing → intensities in [0, 1] → crop to what is not empty → pad to at
least one tile. Each step leaves in a :class:`Restoration` what undoes it; that record stays at
the site. Cropping and padding make the proxy's shape depend on the tile, not on the scanner.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from veilseg.bundle import IntensityRule
from veilseg.errors import GeometryMismatch, InvalidImage
from veilseg.imaging.checks import require_fitting
from veilseg.imaging.intensity import rescale
from veilseg.imaging.orientation import (
    Scalar,
    from_ras,
    in_ras_order,
    orientation_of,
    ras_spacing_mm,
    to_ras,
)
from veilseg.imaging.resampling import linear, reach
from veilseg.imaging.volume import Geometry, LabelMap, Volume
from veilseg.payload import Float32Array

# Spacings that agree within this are the same: resampling would only blur.
SAME_SPACING_RELATIVE = 1e-3
# Of the file's grid, decided at once.
SLAB_VOXELS = 2**22


@dataclass(frozen=True)
class Restoration:
    """What undoes the preprocessing of one image. Stays at the site.

    Attributes
    ----------
    original : Geometry
        Grid of the file.
    orientation : ndarray, shape (3, 2) or (2, 2)
        nibabel orientation from the file's axes to RAS+. In 2D the two axes come in the order of
        RAS, and a file in pixels keeps its own.
    resampled_shape : (X, Y, Z) or (X, Y)
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
    array : ndarray, shape (C, X, Y, Z) or (C, X, Y), float32
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
        The bundle's spacing per RAS+ axis, in the volume's unit.
    intensity : IntensityRule
        Its percentiles are each channel's own.
    tile_shape : (X, Y, Z) or (X, Y)
        The result is at least this large on every axis.

    Returns
    -------
    Prepared

    Raises
    ------
    InvalidImage
        If nothing is left after the intensity rule, or more voxels than fit into memory.
    GeometryMismatch
        If the volume has another number of axes than the spacing.
    """
    if volume.geometry.ndim != len(spacing_mm):
        raise GeometryMismatch(f"a {volume.geometry.ndim}D image for {len(spacing_mm)}D spacing")
    orientation = orientation_of(volume.geometry)
    ras = [to_ras(channel, orientation) for channel in volume.array]
    own_spacing = ras_spacing_mm(volume.geometry)
    zoom = tuple(
        1.0 if abs(own / target - 1) < SAME_SPACING_RELATIVE else own / target
        for own, target in zip(own_spacing, spacing_mm, strict=True)
    )
    scaled = np.empty((len(ras), *ras[0].shape), dtype=np.float32)
    for place, channel in zip(scaled, ras, strict=True):
        place[...] = rescale(channel, intensity)
    # Empty is empty in every channel; interpolation must not smear a halo into it.
    present: NDArray[np.bool_] = np.asarray((scaled > 0).any(axis=0))
    if not present.any():
        raise InvalidImage("intensity: no voxel is left above the lower bound")
    resampled_shape = tuple(
        max(1, round(size * factor)) for size, factor in zip(present.shape, zoom, strict=True)
    )
    # Thick slices at a fine spacing become many: asked before they are made.
    require_fitting((len(ras), *resampled_shape), "at the bundle's spacing", "would have")
    if any(factor != 1.0 for factor in zoom):
        everything = tuple(slice(0, size) for size in resampled_shape)
        present = linear(present, everything, zoom) >= 0.5
        scaled = np.stack([linear(channel, everything, zoom) for channel in scaled])
        # Not by a mask over several channels: NumPy makes indices of it, eight times as large.
        scaled *= present
        if not present.any():
            raise InvalidImage("intensity: no voxel is left above the lower bound")
    crop = ndimage.find_objects(present.view(np.uint8))[0]
    kept = scaled[(slice(None), *crop)]
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
    ndarray, shape (X, Y, Z) or (X, Y), uint8
        On the grid of the prepared image.
    """
    if labels.array.shape != restoration.original.shape:
        raise GeometryMismatch(
            f"labels of shape {labels.array.shape} for an image of {restoration.original.shape}"
        )
    ras = to_ras(labels.array, restoration.orientation)
    crop, zoom = restoration.crop, restoration.zoom
    if all(factor == 1.0 for factor in zoom):
        kept = ras[crop]
    else:
        kept = _strongest_class((ras == value for value in range(classes)), crop, zoom)
    return np.ascontiguousarray(np.pad(kept, restoration.padding))


def restore(probabilities: Float32Array, restoration: Restoration) -> LabelMap:
    """Bring class probabilities back to the file's own grid and decide.

    Parameters
    ----------
    probabilities : ndarray, shape (K, X, Y, Z) or (K, X, Y), float32
        On the grid of the prepared image.

    Returns
    -------
    LabelMap
        On the original grid; background where the preprocessing saw nothing.
    """
    # Outside the crop nothing was seen: background, with certainty.
    maps = (
        _unpadded(map_, float(index == 0), restoration) for index, map_ in enumerate(probabilities)
    )
    labels = _strongest_class(maps, *_way_back(restoration))
    return LabelMap(_on_own_grid(labels, 0, restoration), restoration.original)


def restore_map(values: Float32Array, restoration: Restoration, outside: float) -> Float32Array:
    """Bring one map back to the file's own grid by linear interpolation.

    Parameters
    ----------
    values : ndarray, shape (X, Y, Z) or (X, Y), float32
        On the grid of the prepared image.
    outside : float
        Its value where the preprocessing saw nothing.

    Returns
    -------
    ndarray, shape as ``restoration.original``, float32
    """
    region = linear(_unpadded(values, outside, restoration), *_way_back(restoration))
    return _on_own_grid(region, outside, restoration)


def padding_to(shape: tuple[int, ...], tile_shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Voxels to add before and after each axis to reach the tile, the image in the middle."""
    missing = [max(0, target - size) for size, target in zip(shape, tile_shape, strict=True)]
    return tuple((total // 2, total - total // 2) for total in missing)


def _strongest_class(
    classes: Iterable[NDArray[np.generic]], region: tuple[slice, ...], zoom: tuple[float, ...]
) -> NDArray[np.uint8]:
    """Argmax over class maps that are made and interpolated one at a time, slab by slab."""
    shape = tuple(part.stop - part.start for part in region)
    best, labels = np.empty(shape, dtype=np.float32), np.zeros(shape, dtype=np.uint8)
    thickness = max(1, SLAB_VOXELS * shape[0] // max(1, math.prod(shape)))
    for index, map_ in enumerate(classes):
        for start in range(0, shape[0], thickness):
            slab = slice(start, min(start + thickness, shape[0]))
            asked = slice(region[0].start + slab.start, region[0].start + slab.stop)
            candidate = linear(map_, (asked, *region[1:]), zoom)
            if index == 0:
                best[slab] = candidate
                continue
            # The index only grows, so the larger label is the later one; no branch per voxel.
            better = (candidate > best[slab]).view(np.uint8)
            np.maximum(labels[slab], better * np.uint8(index), out=labels[slab])
            np.maximum(best[slab], candidate, out=best[slab])
        del map_  # before the next is made
    return labels


def _region(restoration: Restoration) -> tuple[slice, ...]:
    """What of the file's grid, in RAS+, the cropped image has a say in."""
    sizes = in_ras_order(restoration.original.shape, restoration.orientation)
    return tuple(
        reach(kept, 1.0 / factor, size)
        for kept, factor, size in zip(restoration.crop, restoration.zoom, sizes, strict=True)
    )


def _unpadded(values: Float32Array, outside: float, restoration: Restoration) -> Float32Array:
    """One map on the prepared grid, without its padding; with what was cropped, if the grid is not
    the file's and values around the crop have a say."""
    inner = tuple(
        slice(before, size - after)
        for (before, after), size in zip(restoration.padding, values.shape, strict=True)
    )
    kept = values[inner]
    if _is_own_grid(restoration):
        return kept
    whole = np.full(restoration.resampled_shape, outside, dtype=np.float32)
    whole[restoration.crop] = kept
    return whole


def _way_back(restoration: Restoration) -> tuple[tuple[slice, ...], tuple[float, ...]]:
    """Region and zoom by which an unpadded map is interpolated on the file's grid."""
    region = _region(restoration)
    if _is_own_grid(restoration):
        region = tuple(slice(0, part.stop - part.start) for part in region)
    return region, tuple(1.0 / factor for factor in restoration.zoom)


def _is_own_grid(restoration: Restoration) -> bool:
    return all(factor == 1.0 for factor in restoration.zoom)


def _on_own_grid(
    region: NDArray[Scalar], outside: float, restoration: Restoration
) -> NDArray[Scalar]:
    """Fill what is around a region and turn the axes back into the file's order."""
    shape = in_ras_order(restoration.original.shape, restoration.orientation)
    whole = np.full(shape, outside, dtype=region.dtype)
    whole[_region(restoration)] = region
    return from_ras(whole, restoration.orientation)
