"""Smooth random fields: warps, gains and textures, in 2D and 3D, without torch.

A site waits for these before anything is sent, and training draws tens of thousands. So each is
drawn on a coarse lattice where it is smooth, or by adding shifted copies where it is not, and
passes over the whole grid are few. Element by element, so that threads change nothing.
"""

from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from veilseg.payload import Float32Array

# The lattice of warps and gains: a node every fifteenth of the mean side of the image, so that
# they look alike at any size; but not finer than this, where a step is a fine detail already.
NODES_PER_SIDE = 15
LEAST_STEP_VOXELS = 8

# The warp: affine plus the flow of a smooth random velocity field. Lengths in lattice steps.
VELOCITY_SMOOTHNESS = 2.0
DISPLACEMENT = 3 / 8  # standard deviation of the flow: 3 voxels, or 2.5 % of a larger image
SHIFT = 3 / 8
# Over a lattice of few nodes a smooth field is nearly one shift, however its spread is scaled: no
# more of the image than this, or nothing of the source would be left in view.
LARGEST_DRIFT = 1 / 4
ROTATION_RADIANS = 0.15
SCALE = 0.08
FLOW_SQUARINGS = 5

GAIN = 0.05  # standard deviation over the lattice
GAIN_SMOOTHNESS = 3.0  # in lattice steps

COARSE_GRAIN_VOXELS = 4

# So much is looked up at a time: what is computed on the way then stays in the cache.
CACHED_VOXELS = 2**15


def lattice_step(shape: tuple[int, ...]) -> int:
    """Voxels between two nodes of the lattice for warps and gains of this grid."""
    return max(LEAST_STEP_VOXELS, round(sum(shape) / len(shape) / NODES_PER_SIDE))


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
    step = lattice_step(shape)
    lattice = _lattice(shape, step)
    velocity = np.stack(
        [ndimage.gaussian_filter(rng.standard_normal(lattice), VELOCITY_SMOOTHNESS) for _ in shape]
    )
    velocity *= DISPLACEMENT / velocity.std()
    nodes = np.indices(lattice, dtype=np.float64)
    # Scaling and squaring: the flow of a smooth field is invertible, a random displacement is not.
    flow = velocity / 2**FLOW_SQUARINGS
    for _ in range(FLOW_SQUARINGS):
        flow = flow + np.stack(
            [ndimage.map_coordinates(part, nodes + flow, order=1, mode="nearest") for part in flow]
        )
    drift = flow.mean(axis=tuple(range(1, dims + 1)), keepdims=True)
    most = LARGEST_DRIFT * np.asarray(shape).reshape(drift.shape) / step
    flow -= drift - np.clip(drift, -most, most)
    matrix = _random_rotation(dims, rng) * (1 + rng.uniform(-SCALE, SCALE, dims))
    shift = step * rng.uniform(-SHIFT, SHIFT, dims)
    centre = (np.asarray(shape) - 1) / 2
    # Affine and flow are both composed on the lattice; only the sum is brought to full size.
    moved = (nodes + flow) * step - centre.reshape(-1, *[1] * dims)
    moved = np.einsum("ij,j...->i...", matrix, moved)
    ratio = (np.asarray(source_shape) / np.asarray(shape)).reshape(-1, *[1] * dims)
    source_centre = ((np.asarray(source_shape) - 1) / 2).reshape(-1, *[1] * dims)
    return _upsampled((moved + shift.reshape(-1, *[1] * dims)) * ratio + source_centre, shape, step)


def nearest(coordinates: Float32Array, source_shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Flat index of the source voxel nearest to each place; places outside take the border's.

    Parameters
    ----------
    coordinates : ndarray, shape (D, *shape), float32
    source_shape : tuple of D int

    Returns
    -------
    ndarray, shape (*shape), intp
        For ``source.take``.
    """
    flat = coordinates.reshape(len(source_shape), -1)
    index = np.zeros(flat.shape[1], dtype=np.intp)
    for start in range(0, index.size, CACHED_VOXELS):
        part = slice(start, start + CACHED_VOXELS)
        for position, size in zip(flat[:, part], source_shape, strict=True):
            index[part] *= size
            index[part] += np.clip(position + np.float32(0.5), 0, size - 1).astype(np.intp)
    return index.reshape(coordinates.shape[1:])


def gain_field(shape: tuple[int, ...], rng: Generator) -> Float32Array:
    """A slowly varying gain around 1, as of a receive coil or a lamp."""
    step = lattice_step(shape)
    field = ndimage.gaussian_filter(rng.standard_normal(_lattice(shape, step)), GAIN_SMOOTHNESS)
    field -= field.mean()
    return _upsampled(1 + GAIN * field / field.std(), shape, step)


def texture(shape: tuple[int, ...], rng: Generator) -> Float32Array:
    """Noise of mean 0 and variance 1, half of it fine grain and half coarse.

    Grains have a standard deviation of 0.7 and 3.3 voxels. Like the noise of an image and unlike
    its anatomy, they are a matter of voxels: they do not grow with the image.
    """
    fine = _grain(shape, rng)
    coarse = _grain(_lattice(shape, COARSE_GRAIN_VOXELS), rng)
    # Between two nodes, which correlate by 2/3, the weights w and 1 − w average some of it away.
    weight = np.arange(COARSE_GRAIN_VOXELS) / COARSE_GRAIN_VOXELS
    left = (1 - 2 * weight * (1 - weight) * (1 - 2 / 3)).mean() ** len(shape)
    fine *= np.float32(np.sqrt(0.5))
    fine += _upsampled(coarse * np.float32(np.sqrt(0.5 / left)), shape, COARSE_GRAIN_VOXELS)
    return fine


def diffuse(image: Float32Array, share: float) -> None:
    """Give each neighbour along each axis a share of every voxel, in place.

    The kernel along an axis is (share, 1 − 2·share, share); nothing flows over the border.
    """
    for axis in range(image.ndim):
        low, high = _neighbours(image, axis)
        flow = high - low
        flow *= np.float32(share)
        low += flow
        high -= flow


def _grain(shape: tuple[int, ...], rng: Generator) -> Float32Array:
    """Noise of mean 0 and variance 1 everywhere, smoothed by (1, 2, 1) along each axis."""
    # Sums of bytes: at most 4^3 · 255, which fits, and exact. In 3D they differ by a thousandth of
    # the standard deviation, which is finer than FP16 on the wire once it is a texture.
    noise = rng.integers(0, 256, [size + 2 for size in shape], np.uint8).astype(np.uint16)
    for axis in range(len(shape)):
        for _ in range(2):
            low, high = _neighbours(noise, axis)
            noise = low + high
    mean = 4 ** len(shape) * 255 / 2
    # Of one byte, (256² − 1) / 12; the squares of 1, 2, 1 add up to 6.
    variance = 6 ** len(shape) * (256**2 - 1) / 12
    grain = noise.astype(np.float32)
    grain -= np.float32(mean)
    grain *= np.float32(1 / np.sqrt(variance))
    return grain


def _neighbours(array: NDArray[Any], axis: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Views of all but the last and of all but the first along an axis."""
    before = [slice(None)] * axis
    return array[(*before, slice(None, -1))], array[(*before, slice(1, None))]


def _lattice(shape: tuple[int, ...], step: int) -> tuple[int, ...]:
    """Nodes per axis, so that every voxel lies between two."""
    return tuple(-(-size // step) + 1 for size in shape)


def _upsampled(coarse: NDArray[np.floating], shape: tuple[int, ...], step: int) -> Float32Array:
    """Linear interpolation of (…, *lattice) nodes that are ``step`` voxels apart: (…, *shape)."""
    fine = np.asarray(coarse, dtype=np.float32)
    weight = np.arange(step, dtype=np.float32) / np.float32(step)
    first = fine.ndim - len(shape)
    # The first axis comes last: by then it moves whole planes, which is fast.
    for axis in reversed(range(first, fine.ndim)):
        low, high = _neighbours(fine, axis)
        after = [1] * (fine.ndim - axis - 1)
        cells = np.expand_dims(high - low, axis + 1) * weight.reshape(-1, *after)
        cells += np.expand_dims(low, axis + 1)
        fine = cells.reshape(*low.shape[:axis], -1, *low.shape[axis + 1 :])
        fine = fine[(*[slice(None)] * axis, slice(shape[axis - first]))]
    return fine


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
