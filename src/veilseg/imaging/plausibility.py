"""Is an image what the bundle was trained on? If not, say so before it matters.

What cannot be right is refused; what looks unlike the training images draws a warning. A network
answers anything: a head that still has its skull gets a segmentation too, a wrong one.
"""

from collections.abc import Sequence

import numpy as np

from veilseg.bundle import ClientManifest, Expectation
from veilseg.errors import InvalidImage
from veilseg.imaging.orientation import ras_spacing_mm
from veilseg.imaging.volume import Unit, Volume
from veilseg.payload import Float32Array

HISTOGRAM_BINS = 32
# How far beyond the range of the training images an image may lie before it draws a warning.
BACKGROUND_MARGIN = 0.15
# A head is about a quarter longer than its brain; people of one age differ by a tenth.
EXTENT_FACTOR = 1.15
# Coarser voxels lack what the network looks for. Finer ones are averaged and lose nothing: only a
# size that no scanner has is told.
COARSER_FACTOR = 2.0
FINER_FACTOR = 5.0
HISTOGRAM_FACTOR = 2.0
# Another scanner moves a histogram by this much; few or very alike training images move less.
# (Measured on T1 brains: gamma 0.8 moves 0.05, a skull 0.10 and more, inversion 0.17 and more.)
USUAL_HISTOGRAM_DISTANCE = 0.06


def spacing_for(volume: Volume, manifest: ClientManifest, name: str) -> tuple[float, ...]:
    """Check that an image is of a bundle's kind, and say at which spacing to prepare it.

    A bundle in pixels takes the pixels of any image as they are, so that spacing is the image's.

    Parameters
    ----------
    name : str
        What errors call the image.

    Raises
    ------
    InvalidImage
        If it has other channels or dimensions than the bundle takes, or no pixel size where the
        bundle needs one.
    """
    channels, geometry = len(volume.array), volume.geometry
    if channels != len(manifest.channels):
        raise InvalidImage(
            f"{name}: has {channels} channel{'s' * (channels > 1)}; the bundle takes "
            f"{len(manifest.channels)} ({', '.join(manifest.channels)})"
        )
    if geometry.ndim != manifest.spatial_dims:
        raise InvalidImage(
            f"{name}: is {geometry.ndim}D; the bundle takes {manifest.spatial_dims}D images"
        )
    if manifest.unit == "pixel":
        return ras_spacing_mm(geometry)
    if geometry.unit == "pixel":
        raise InvalidImage(
            f"{name}: does not say how large a pixel is, which the bundle needs: give it as "
            "NIfTI that does"
        )
    return manifest.spacing_mm


def expectation_of(volumes: Sequence[Volume], prepared: Sequence[Float32Array]) -> Expectation:
    """Summarise training images: as read, and as prepared (cropped, intensities in [0, 1])."""
    histograms = np.array([_histogram(array) for array in prepared])
    mean = histograms.mean(axis=0)
    backgrounds = [_background_fraction(volume) for volume in volumes]
    extents = [_extent(volume, volume.geometry.spacing_mm) for volume in volumes]
    spacings = np.array([volume.geometry.spacing_mm for volume in volumes])
    return Expectation(
        background_fraction=(min(backgrounds), max(backgrounds)),
        extent_mm=(min(extents), max(extents)),
        spacing_mm=(float(spacings.min()), float(spacings.max())),
        histogram=tuple(round(float(value), 6) for value in mean),
        histogram_distance=float(max(_earth_mover(one, mean) for one in histograms)),
    )


def warnings_for(
    volume: Volume, prepared: Float32Array, expectation: Expectation, unit: Unit = "mm"
) -> list[str]:
    """One line per way in which an image differs from the training images.

    Parameters
    ----------
    volume : Volume
        As read.
    prepared : ndarray, shape (C, X, Y, Z) or (C, X, Y)
        As prepared for the bundle.
    expectation : Expectation
    unit : "mm" or "pixel"
        The bundle's. In pixels, nothing is said of the size of a pixel.
    """
    found = []
    solid = volume.geometry.ndim == 3
    element = "voxel" if solid else "pixel"
    spacing = volume.geometry.spacing_mm if unit == "mm" else (1.0,) * volume.geometry.ndim
    if unit != volume.geometry.unit:
        finest, coarsest = min(volume.geometry.spacing_mm), max(volume.geometry.spacing_mm)
        found.append(
            "the bundle takes pixels as they are: the pixel size that the file states, "
            f"{finest:.2g}…{coarsest:.2g} mm, is not used"
        )
    if unit == "mm" and not volume.geometry.sized:
        found.append(f"the file does not say how large a {element} is: 1 mm is assumed")
    background = _background_fraction(volume)
    low, high = expectation.background_fraction
    if background < low - BACKGROUND_MARGIN:
        head = "a head that is not skull-stripped, or " if solid else ""
        found.append(
            f"{background:.0%} of the {element}s are zero, {low:.0%} or more in training: "
            f"{head}a background that is not zero?"
        )
    extent = _extent(volume, spacing)
    low, high = expectation.extent_mm
    if not low / EXTENT_FACTOR <= extent <= high * EXTENT_FACTOR:
        head = "a head that is not skull-stripped, " if solid else ""
        wrong = f"a wrong {element} size" if unit == "mm" else "another magnification"
        found.append(
            f"the imaged region is {extent:.0f} {'mm' if unit == 'mm' else 'pixels'} long, "
            f"{low:.0f}…{high:.0f} in training: {head}another body part, a crop, or {wrong}?"
        )
    low, high = expectation.spacing_mm
    finest, coarsest = min(spacing), max(spacing)
    if unit == "mm" and (finest < low / FINER_FACTOR or coarsest > high * COARSER_FACTOR):
        found.append(
            f"{element}s are {finest:.2g}…{coarsest:.2g} mm, {low:.2g}…{high:.2g} mm in training"
        )
    distance = _earth_mover(_histogram(prepared), np.array(expectation.histogram))
    usual = max(HISTOGRAM_FACTOR * expectation.histogram_distance, USUAL_HISTOGRAM_DISTANCE)
    if distance > usual:
        found.append(
            "the intensities are spread unlike those in training "
            f"(distance {distance:.2f}, at most {expectation.histogram_distance:.2f} there): "
            "another modality or contrast?"
        )
    return found


def _background_fraction(volume: Volume) -> float:
    return float((volume.array == 0).all(axis=0).mean())


def _extent(volume: Volume, spacing: tuple[float, ...]) -> float:
    """Longest side of the box around what is not zero."""
    present = (volume.array != 0).any(axis=0)
    sides = []
    for axis, step in enumerate(spacing):
        others = tuple(other for other in range(present.ndim) if other != axis)
        where = np.flatnonzero(present.any(axis=others))
        sides.append((where[-1] - where[0] + 1) * step)
    return float(max(sides))


def _histogram(prepared: Float32Array) -> np.ndarray:
    counts, _ = np.histogram(prepared[prepared > 0], bins=HISTOGRAM_BINS, range=(0, 1))
    return np.asarray(counts / max(1, counts.sum()))


def _earth_mover(first: np.ndarray, second: np.ndarray) -> float:
    """Earth mover's distance of two histograms over [0, 1]."""
    return float(np.abs(np.cumsum(first - second)).mean())
