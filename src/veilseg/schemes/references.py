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
from veilseg.imaging.preprocessing import SMALLEST_PRESENT
from veilseg.payload import Float32Array

LabelArray = NDArray[np.uint8]
# Names in the client half of a bundle.
TEMPLATE_FILE = "template.npz"
UNMIXER_FILE = "unmixer.onnx"

# The warp: affine plus the flow of a smooth random velocity field.
LATTICE_VOXELS = 8  # the field lives on a lattice this coarse: smooth, and cheap to compose
VELOCITY_SMOOTHNESS = 2.0  # in lattice steps
DISPLACEMENT_VOXELS = 3.0  # standard deviation of the flow
ROTATION_RADIANS = 0.15
SCALE = 0.08
SHIFT_VOXELS = 3.0
FLOW_SQUARINGS = 5

TISSUE_JITTER = 0.04  # of the tissue means, which lie in [0, 1]
TEXTURE_SCALES_VOXELS = (0.8, 3.0)
TEXTURE_SHARE = 0.5  # of a tissue's spread over people; the rest is anatomy, as the warp gives
BIAS = 0.1
CURVE_JITTER = 0.12  # of the knots of the intensity curve of a labelled reference

FILL_MEAN = (0.15, 0.45)
FILL_CONTRAST = 0.12

# A reference with less contrast than this share of the patient's hides too little (method.md §6).
LEAST_CONTRAST = 0.8
# Stretching clips at 0 and 1, so the goal is approached, in few steps unless many voxels tie.
CONTRAST_STEPS = 12


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
    coordinates = random_warp(shape, template.tissues.shape, rng)
    tissues = ndimage.map_coordinates(template.tissues, coordinates, order=0, mode="nearest")
    channels = []
    for channel in range(template.mean.shape[1]):
        mean = template.mean[:, channel]
        mean = mean + rng.normal(0, TISSUE_JITTER, mean.shape).astype(np.float32)
        image = np.clip(mean, 0.05, 1)[tissues]
        image += TEXTURE_SHARE * template.spread[:, channel][tissues] * _texture(shape, rng)
        channels.append(ndimage.gaussian_filter(image, 0.5) * _bias(shape, rng))
    image = np.clip(np.stack(channels), SMALLEST_PRESENT, 1).astype(np.float32)
    image[:, tissues == 0] = 0
    return Reference(image, template.label_of_tissue[tissues])


def labelled_reference(base: Reference, shape: tuple[int, ...], rng: Generator) -> Reference:
    """Warp a labelled case and pass its intensities through a random rising curve."""
    coordinates = random_warp(shape, base.labels.shape, rng)
    labels = ndimage.map_coordinates(base.labels, coordinates, order=0, mode="nearest")
    present = ndimage.map_coordinates(
        (base.image > 0).any(axis=0), coordinates, order=0, mode="nearest"
    )
    channels = []
    for channel in base.image:
        warped = ndimage.map_coordinates(channel, coordinates, order=1, mode="nearest")
        knots = np.linspace(0, 1, 5)
        values = np.sort(np.clip(knots + rng.normal(0, CURVE_JITTER, knots.shape), 0, 1))
        channels.append(np.interp(warped, knots, values) * _bias(shape, rng))
    image = np.clip(np.stack(channels), SMALLEST_PRESENT, 1).astype(np.float32)
    image[:, ~present] = 0
    return Reference(image, labels)


def with_contrast(reference: Reference, patient_image: Float32Array) -> Reference:
    """Stretch a reference until its contrast is at least 0.8 of the patient's.

    Contrast is the standard deviation over what is not empty, averaged over channels.
    """
    goal = LEAST_CONTRAST * contrast(patient_image)
    image = reference.image
    present = image[0] > 0
    for _ in range(CONTRAST_STEPS):
        now = contrast(image)
        if now >= goal or now == 0:
            break
        inside = image[:, present]
        centre = np.median(inside, axis=1, keepdims=True)
        stretched = centre + (inside - centre) * (1.05 * goal / now)
        image = image.copy()
        image[:, present] = np.clip(stretched, SMALLEST_PRESENT, 1)
    if contrast(image) < goal:
        # More than half of the voxels share one value, so that the median cannot part them.
        image = _black_and_white(image, present)
    return Reference(image, reference.labels)


def _black_and_white(image: Float32Array, present: NDArray[np.bool_]) -> Float32Array:
    """Each channel's darker half black, its brighter half white; ties go by the neighbourhood."""
    result = image.copy()
    for channel in result:
        around = ndimage.gaussian_filter(channel, TEXTURE_SCALES_VOXELS[-1])
        order = np.lexsort((around[present], channel[present]))
        values = np.full(order.size, SMALLEST_PRESENT)
        values[order[order.size // 2 :]] = 1
        channel[present] = values
    return result


def contrast(image: Float32Array) -> float:
    """Standard deviation of the voxels that are not empty, averaged over channels."""
    present = (image > 0).any(axis=0)
    return float(image[:, present].std(axis=1).mean()) if present.any() else 0.0


def fill_background(image: Float32Array, rng: Generator) -> Float32Array:
    """Fill what is empty with texture, so that no voxel of a mixture shows one source alone.

    Patient and reference are filled by this same rule (method.md §6.3).
    """
    empty = ~(image > 0).any(axis=0)
    if not empty.any():
        return image
    filled = image.copy()
    for channel in filled:
        texture = rng.uniform(*FILL_MEAN) + FILL_CONTRAST * _texture(channel.shape, rng)
        channel[empty] = np.clip(texture[empty], SMALLEST_PRESENT, 1)
    return filled


def random_warp(
    shape: tuple[int, ...], source_shape: tuple[int, ...], rng: Generator
) -> Float32Array:
    """Where each voxel looks in a source scaled to fill ``shape``, under a random diffeomorphism.

    Returns
    -------
    ndarray, shape (D, *shape), float32
        Source voxel coordinates.
    """
    dims = len(shape)
    lattice = tuple(-(-size // LATTICE_VOXELS) + 1 for size in shape)
    velocity = np.stack(
        [ndimage.gaussian_filter(rng.standard_normal(lattice), VELOCITY_SMOOTHNESS) for _ in shape]
    )
    velocity *= DISPLACEMENT_VOXELS / LATTICE_VOXELS / velocity.std()
    nodes = np.indices(lattice, dtype=np.float64)
    # Scaling and squaring: the flow of a smooth field is invertible, a random displacement is not.
    flow = velocity / 2**FLOW_SQUARINGS
    for _ in range(FLOW_SQUARINGS):
        flow = flow + np.stack(
            [ndimage.map_coordinates(part, nodes + flow, order=1, mode="nearest") for part in flow]
        )
    matrix = _random_rotation(dims, rng) * (1 + rng.uniform(-SCALE, SCALE, dims))
    shift = rng.uniform(-SHIFT_VOXELS, SHIFT_VOXELS, dims)
    centre = (np.asarray(shape) - 1) / 2
    # Affine and flow are both composed on the lattice; only the sum is brought to full size.
    moved = (nodes + flow) * LATTICE_VOXELS - centre.reshape(-1, *[1] * dims)
    moved = np.einsum("ij,j...->i...", matrix, moved)
    ratio = (np.asarray(source_shape) / np.asarray(shape)).reshape(-1, *[1] * dims)
    source_centre = ((np.asarray(source_shape) - 1) / 2).reshape(-1, *[1] * dims)
    moved = (moved + shift.reshape(-1, *[1] * dims)) * ratio + source_centre
    return np.stack([_upsampled(part, shape) for part in moved]).astype(np.float32)


def _upsampled(coarse: NDArray[np.float64], shape: tuple[int, ...]) -> Float32Array:
    """Linear interpolation of a lattice with ``LATTICE_VOXELS`` steps."""
    result = coarse.astype(np.float32)
    for axis, size in enumerate(shape):
        position = np.arange(size) / LATTICE_VOXELS
        below = np.minimum(position.astype(int), coarse.shape[axis] - 2)
        along = [-1 if other == axis else 1 for other in range(len(shape))]
        weight = (position - below).astype(np.float32).reshape(along)
        low, high = np.take(result, below, axis), np.take(result, below + 1, axis)
        result = low + (high - low) * weight
    return result


def _random_rotation(dims: int, rng: Generator) -> NDArray[np.float64]:
    matrix = np.eye(dims)
    for first in range(dims):
        for second in range(first + 1, dims):
            angle = rng.uniform(-ROTATION_RADIANS, ROTATION_RADIANS)
            plane = np.eye(dims)
            both = np.ix_((first, second), (first, second))
            plane[both] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
            matrix = matrix @ plane
    return matrix


def _texture(shape: tuple[int, ...], rng: Generator) -> Float32Array:
    """Noise of unit variance with fine and coarse grain."""
    total = np.zeros(shape, dtype=np.float32)
    for scale in TEXTURE_SCALES_VOXELS:
        grain = ndimage.gaussian_filter(
            rng.standard_normal(shape, dtype=np.float32), scale, truncate=3.0
        )
        total += grain / grain.std()
    return total / np.float32(np.sqrt(len(TEXTURE_SCALES_VOXELS)))


def _bias(shape: tuple[int, ...], rng: Generator) -> Float32Array:
    """A slowly varying gain around 1, as of a receive coil."""
    lattice = tuple(-(-size // LATTICE_VOXELS) + 1 for size in shape)
    field = ndimage.gaussian_filter(rng.standard_normal(lattice), 3.0)
    field -= field.mean()
    return np.float32(1) + np.float32(BIAS / 2) * _upsampled(field / field.std(), shape)
