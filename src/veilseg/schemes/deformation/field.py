"""Invertible deformations of an image, from a velocity on a coarse lattice; without torch.

The flow of a smooth velocity field is a diffeomorphism, and the flow of its negative the inverse.
A velocity lies on ``NODES`` nodes a side, whatever the image's size, and is told as a share of that
side; its component across a face is 0 there, so that the image's box is mapped onto itself and
nothing is moved out of view.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from veilseg.payload import Float32Array

# Of the velocity along each axis; the fewer, the smoother.
NODES = 8
# Of what the generator makes a velocity of: so many normal numbers at each node.
CODE_CHANNELS = 4
# The flow is integrated on a finer lattice, by doubling a step so many times.
FINE_NODES, SQUARINGS = 29, 6
# Corrections of the inverse; each squares what it is off by.
CORRECTIONS = 2


def code_shape(spatial_dims: int) -> tuple[int, ...]:
    """Of the secret numbers that a velocity is made of."""
    return (CODE_CHANNELS, *[NODES] * spatial_dims)


def flow(velocity: Float32Array, shape: tuple[int, ...]) -> Float32Array:
    """Where each voxel looks in the image that is deformed: scaling and squaring.

    Parameters
    ----------
    velocity : ndarray, shape (D, *nodes)
        As a share of the side along each axis.
    shape : tuple of D int
        Of the image.

    Returns
    -------
    ndarray, shape (D, *shape), float32
        Voxel coordinates.
    """
    fine = (FINE_NODES,) * len(shape)
    last = FINE_NODES - 1
    step = _resized(velocity.astype(np.float64), fine) / 2**SQUARINGS
    nodes = np.indices(fine, dtype=np.float64)
    for _ in range(SQUARINGS):
        step = step + _looked_up(step, nodes + last * step)
    sides = np.array(shape, dtype=np.float32).reshape(-1, *[1] * len(shape)) - 1
    places = _resized(step.astype(np.float32), shape) * sides
    places += np.indices(shape, dtype=np.float32)
    return places


def inverse_flow(velocity: Float32Array, coordinates: Float32Array) -> Float32Array:
    """Where each voxel of the undeformed image looks in the deformed one.

    The flow of the negative velocity inverts :func:`flow` up to interpolation, which is between few
    nodes. Newton's method takes the rest away: at ``ψ`` the deformation comes out ``φ(ψ(y)) − y``
    off, and the inverse of its derivative there is the derivative of ``ψ``.

    Parameters
    ----------
    velocity : ndarray, shape (D, *nodes)
    coordinates : ndarray, shape (D, *shape), float32
        What :func:`flow` made of it.

    Returns
    -------
    ndarray, shape (D, *shape), float32
    """
    shape = coordinates.shape[1:]
    found = flow(-velocity, shape)
    voxels = np.indices(shape, dtype=np.float32)
    largest = np.array(shape, dtype=np.float32).reshape(-1, *[1] * len(shape)) - 1
    for _ in range(CORRECTIONS):
        off = _looked_up(coordinates, found) - voxels
        for axis, along in enumerate(off, start=1):
            found = found - np.gradient(found, axis=axis) * along
        found = np.clip(found, 0, largest)
    return np.asarray(found, dtype=np.float32)


def deformed(maps: Float32Array, coordinates: Float32Array) -> Float32Array:
    """Maps (C, *shape), looked up linearly at (D, *shape) voxel coordinates.

    Class probabilities still sum to one: every value is a weighted mean of its neighbours.
    """
    return _looked_up(maps, coordinates)


def _looked_up(maps: NDArray[np.floating], places: NDArray[np.floating]) -> Float32Array:
    return np.stack([ndimage.map_coordinates(one, places, order=1, mode="nearest") for one in maps])


def _resized(maps: NDArray[np.floating], shape: tuple[int, ...]) -> Float32Array:
    """Linearly, corner to corner: (C, *nodes) to (C, *shape)."""
    zoom = [new / old for new, old in zip(shape, maps.shape[1:], strict=True)]
    return np.stack([ndimage.zoom(one, zoom, order=1, mode="nearest") for one in maps])


def price_of_averaging(proxies: int) -> str:
    """What several proxies of one image tell the server, in words."""
    return (
        f"{proxies} different proxies of this subject show the same anatomy under {proxies} "
        "deformations: laid over each other, their mean shape is nearer to the patient's"
    )
