"""Intensities to [0, 1], by the bundle's rule."""

import numpy as np

from veilseg.bundle import IntensityRule
from veilseg.errors import InvalidImage
from veilseg.payload import Float32Array

# Tells present-but-dark from empty after clipping; representable in FP16.
SMALLEST_PRESENT = np.float32(2.0**-10)


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
        wanted = [intensity.lower, intensity.upper]
        lower, upper = map(float, np.percentile(present, wanted, overwrite_input=True))
        del present
    if upper <= lower:
        raise InvalidImage(f"intensity: the range {lower:g}…{upper:g} is empty")
    # In place and in single precision: of a large volume there is no room for several.
    scaled = array - np.float32(lower)
    scaled /= np.float32(upper - lower)
    np.clip(scaled, 0, 1, out=scaled)
    if intensity.rule == "percentile":
        # The darkest tissue is still tissue: only what was exactly zero stays so.
        np.maximum(scaled, SMALLEST_PRESENT, out=scaled)
        scaled[array == 0] = 0
    return scaled
