"""The law of reference images: one code for training and for sites, without torch.

A reference is a warped, re-coloured brain (or heart, …) with a known label map. It starts from
the bundle's population template (synthetic) or from a labelled case of the site. All randomness
comes from the generator that is passed in; the vault seeds it with a keyed PRF.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from veilseg.errors import BundleIntegrity
from veilseg.imaging.intensity import SMALLEST_PRESENT
from veilseg.payload import Float32Array
from veilseg.schemes.random_fields import diffuse, gain_field, nearest, random_warp, texture

LabelArray = NDArray[np.uint8]
# Names in the client half of a bundle.
TEMPLATE_FILE = "template.npz"
UNMIXER_FILE = "unmixer.onnx"

TISSUE_JITTER = 0.04  # of the tissue means, which lie in [0, 1]
TEXTURE_SHARE = 0.5  # of a tissue's spread over people; the rest is anatomy, as the warp gives
CURVE_KNOTS = 5
CURVE_JITTER = 0.12  # of the knots of the intensity curve of a labelled reference
CURVE_STEPS = 4096  # finer than FP16 on the wire
# A voxel looked up in its source gives this share to each neighbour along an axis: tissues then
# meet as softly as if blurred by half a voxel.
BLUR_SHARE = 0.125

FILL_MEAN = (0.15, 0.45)
FILL_CONTRAST = 0.12

# A reference with less contrast than this share of the patient's hides too little (method.md §6).
LEAST_CONTRAST = 0.8
# Stretching clips at 0 and 1, so the goal is approached, in few steps unless many voxels tie.
CONTRAST_STEPS = 12
# The middle of the intensities is found from about so many voxels.
MEDIAN_SAMPLE = 2**16
NEIGHBOURHOOD_VOXELS = 3.0
# Drawn in turn until foreground is in view.
MOST_WARPS = 8


@dataclass(frozen=True)
class Reference:
    """A reference image with its labels, on the patient's grid. Never leaves the site.

    Attributes
    ----------
    image : ndarray, shape (C, X, Y, Z), float32
        In [0, 1]; exactly 0 where it has no tissue, until :func:`fill_background`.
    labels : ndarray, shape (X, Y, Z), uint8
    """

    image: Float32Array
    labels: LabelArray


@dataclass(frozen=True)
class Template:
    """Population tissue map from which synthetic references are drawn.

    Attributes
    ----------
    tissues : ndarray, shape (X, Y, Z), uint8
        Finer than the labels; tissue 0 is empty.
    label_of_tissue : ndarray, shape (T,), uint8
    mean, spread : ndarray, shape (T, C), float32
        Intensity of each tissue in the training images.
    """

    tissues: LabelArray
    label_of_tissue: LabelArray
    mean: Float32Array
    spread: Float32Array

    def save(self, path: Path) -> None:
        """Write as ``.npz`` without pickle."""
        np.savez_compressed(
            path,
            tissues=self.tissues,
            label_of_tissue=self.label_of_tissue,
            mean=self.mean,
            spread=self.spread,
        )

    @classmethod
    def load(cls, path: Path) -> "Template":
        """Read what :meth:`save` wrote; BundleIntegrity if it is something else."""
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                template = cls(*(stored[name] for name in cls.__dataclass_fields__))
            template.require_consistent()
        except (
            OSError,
            EOFError,
            TypeError,
            ValueError,
            KeyError,
            BadZipFile,
            zlib.error,
        ) as error:
            raise BundleIntegrity(f"{path}: not a label template: {error}") from error
        return template

    def require_consistent(self) -> None:
        """Raise ValueError unless every tissue has a label, a mean and a spread."""
        count = len(self.label_of_tissue)
        if self.mean.ndim != 2 or len(self.mean) != count or self.spread.shape != self.mean.shape:
            raise ValueError("tissues, labels and intensities differ in number")
        if self.tissues.dtype != np.uint8 or self.tissues.max(initial=0) >= count:
            raise ValueError("a voxel's tissue has no label")


def synthetic_reference(template: Template, shape: tuple[int, ...], rng: Generator) -> Reference:
    """Warp the template and fill it with tissue intensities and texture.

    Parameters
    ----------
    template : Template
    shape : (X, Y, Z)
        Grid of the patient image.
    rng : Generator

    Returns
    -------
    Reference
    """
    source_shape = template.tissues.shape
    source = nearest(random_warp(shape, source_shape, rng), source_shape)
    tissues = template.tissues.take(source)
    gain = gain_field(shape, rng)
    channels = []
    for mean, spread in zip(template.mean.T, template.spread.T, strict=True):
        jitter = rng.normal(0, TISSUE_JITTER, mean.shape).astype(np.float32)
        image = texture(shape, rng)
        image *= (TEXTURE_SHARE * spread).take(tissues)
        image += np.clip(mean + jitter, 0.05, 1).take(tissues)
        channels.append(image)
    image = _finished(channels, gain, tissues > 0)
    return Reference(image, template.label_of_tissue.take(tissues))


def labelled_reference(base: Reference, shape: tuple[int, ...], rng: Generator) -> Reference:
    """Warp a labelled case and pass its intensities through a random rising curve.

    A warp that moves all of the foreground out of view is drawn again: the answer would show the
    patient's mask alone.
    """
    source_shape = base.labels.shape
    for _ in range(MOST_WARPS):
        source = nearest(random_warp(shape, source_shape, rng), source_shape)
        if base.labels.take(source).any():
            break
    gain = gain_field(shape, rng)
    channels = []
    for channel in base.image:
        steps = (channel.take(source) * np.float32(CURVE_STEPS)).astype(np.intp)
        channels.append(_random_curve(rng).take(steps, mode="clip"))
    image = _finished(channels, gain, _present(base.image).take(source))
    return Reference(image, base.labels.take(source))


def _random_curve(rng: Generator) -> Float32Array:
    """A rising curve through [0, 1], as a table of ``CURVE_STEPS`` equal steps."""
    knots = np.linspace(0, 1, CURVE_KNOTS)
    values = np.sort(np.clip(knots + rng.normal(0, CURVE_JITTER, knots.shape), 0, 1))
    steps = np.linspace(0, 1, CURVE_STEPS + 1)
    return np.interp(steps, knots, values).astype(np.float32)


def _finished(
    channels: list[Float32Array], gain: Float32Array, present: NDArray[np.bool_]
) -> Float32Array:
    """Soften the seams, apply the gain, clip, and empty what is not present."""
    image = np.stack(channels)
    for channel in image:
        diffuse(channel, BLUR_SHARE)
        channel *= gain
    np.clip(image, SMALLEST_PRESENT, 1, out=image)
    image *= present
    return image


def with_contrast(reference: Reference, patient_image: Float32Array) -> Reference:
    """Stretch a reference until the contrast of each channel is at least 0.8 of the patient's.

    Contrast is the standard deviation over what is not empty. Channel by channel: one bland channel
    would show the patient's through, however lively the others are.
    """
    present = _present(reference.image)
    image = reference.image
    for number, goal in enumerate(LEAST_CONTRAST * contrast(patient_image)):
        values = image[number][present]
        if not values.size or _deviation(values) >= goal:
            continue
        if image is reference.image:
            image = image.copy()
        enough = _stretch(values, float(goal))
        image[number][present] = values
        if not enough:
            # More than half of the voxels share one value, so that the median cannot part them.
            image[number][present] = _black_and_white(image[number], present)
    return reference if image is reference.image else Reference(image, reference.labels)


def _stretch(values: Float32Array, goal: float) -> bool:
    """Stretch values about their middle, in place, until they deviate by ``goal``, if they can."""
    every = -(-values.size // MEDIAN_SAMPLE)
    now = _deviation(values)
    for _ in range(CONTRAST_STEPS):
        if not 0 < now < goal:
            break
        centre = np.median(values[::every])
        values -= centre
        values *= np.float32(1.05 * goal / now)
        values += centre
        np.clip(values, SMALLEST_PRESENT, 1, out=values)
        now = _deviation(values)
    return now >= goal


def _black_and_white(channel: Float32Array, present: NDArray[np.bool_]) -> Float32Array:
    """The darker half of the present voxels black, the brighter white; ties by neighbourhood."""
    around = ndimage.gaussian_filter(channel, NEIGHBOURHOOD_VOXELS)
    order = np.lexsort((around[present], channel[present]))
    values = np.full(order.size, SMALLEST_PRESENT, dtype=np.float32)
    values[order[order.size // 2 :]] = 1
    return values


def contrast(image: Float32Array) -> Float32Array:
    """Standard deviation of the voxels that are not empty: one per channel."""
    present = _present(image)
    return np.array([_deviation(channel[present]) for channel in image], dtype=np.float32)


def fill_background(image: Float32Array, rng: Generator) -> Float32Array:
    """Fill what is empty with texture, so that no voxel of a mixture shows one source alone.

    Patient and reference are filled by this same rule (method.md §6.3), each with noise of its own:
    a server that knew one fill would know nothing of the other.
    """
    empty = ~_present(image)
    if not empty.any():
        return image
    filled = image.copy()
    for channel in filled:
        values = rng.uniform(*FILL_MEAN) + FILL_CONTRAST * texture(channel.shape, rng)[empty]
        channel[empty] = np.clip(values, SMALLEST_PRESENT, 1)
    return filled


def _present(image: Float32Array) -> NDArray[np.bool_]:
    """Where any channel of (C, X, Y, Z) is not empty. Faster than ``any`` over the first axis."""
    present: NDArray[np.bool_] = image[0] > 0
    for channel in image[1:]:
        present |= channel > 0
    return present


def _deviation(values: Float32Array) -> float:
    """Standard deviation; 0 of nothing."""
    return float(values.std()) if values.size else 0.0
