"""What crosses the trust boundary, and what never does.

A :class:`Proxy` goes from site to server, an :class:`Answer` comes back. A
:class:`Receipt` holds what the site needs to recover the segmentation and stays there.
"""

import hashlib
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

Float32Array = NDArray[np.float32]

# What one voxel of a proxy is on the wire. Digests are taken at this precision, so that a
# difference which never leaves the site is no different proxy.
WIRE_DTYPE = np.dtype("<f2")


@dataclass(frozen=True)
class Proxy:
    """What the server is shown in place of the patient image.

    Attributes
    ----------
    array : ndarray, float32
        On the bundle's grid, (C, X, Y, Z) or (C, X, Y); or of tiles that were protected one by one,
        (T, …). No header, name, affine or date goes with it.
    tiled : bool
        Whether it is of tiles.
    """

    array: Float32Array
    tiled: bool = False

    def digest(self) -> str:
        """SHA-256 of shape and wire bytes: equal digests mean equal traffic."""
        wire = np.ascontiguousarray(self.array, dtype=WIRE_DTYPE)
        return hashlib.sha256(repr(wire.shape).encode() + wire.tobytes()).hexdigest()


@dataclass(frozen=True)
class Answer:
    """What the server computed from a proxy.

    Attributes
    ----------
    array : ndarray, float32
        One map per class on the proxy's grid, (K, X, Y, Z) or (K, X, Y); or what was answered to
        each tile, (T, …). Its meaning belongs to the scheme.
    """

    array: Float32Array


class Receipt:
    """What the site keeps to turn an answer into the patient's segmentation.

    Subclasses hold references, coefficients, warps or keys. They cannot be pickled,
    copied to another process or printed: whoever holds a receipt and the proxy has the
    patient image.
    """

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: redacted, never leaves the site>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} never leaves the site: it has no serialiser")
